"""The dashboard for Grafana and the alerts for Prometheus: they ask for metrics, labels and values that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final, get_args

import pytest
import yaml

from oda_proxy.jobs.counts import RESULTS
from oda_proxy.metrics.catalogue import METRICS, Kind
from oda_proxy.metrics.outcomes import OUTCOMES
from oda_proxy.metrics.request_counts import ROUTES
from oda_proxy.store.eviction import REASONS
from oda_proxy.store.faults import OPERATIONS
from oda_proxy.upstream.breaker import State
from oda_proxy.upstream.counts import STATUSES
from tests.support.paths import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

DASHBOARD: Final = json.loads((CHECKOUT / "deploy/grafana/oda-proxy.json").read_text())
RULES: Final = CHECKOUT / "deploy/prometheus/oda-proxy.rules.yml"
ALERT_TESTS: Final = CHECKOUT / "tests/metrics/alerts.yml"
PANELS: Final = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ALERTS: Final = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]

LABELS: Final = {sample: set(metric.labels) for metric in METRICS for sample in metric.sample_names}
"""Labels by the name of a time series."""
VALUES: Final = {
    "outcome": OUTCOMES,
    "route": ROUTES,
    "result": RESULTS,
    "reason": REASONS,
    "operation": OPERATIONS,
    "state": get_args(State),
    "status": STATUSES,
}
"""The values of labels that have a fixed set of them."""
OF_PROMETHEUS: Final = {"instance", "job"}


@dataclass(frozen=True)
class Query:
    """A query of a panel or an alert."""

    name: str
    text: str
    legend: str = ""


QUERIES: Final = [
    *(Query(panel["title"], one["expr"], one["legendFormat"]) for panel in PANELS for one in panel["targets"]),
    *(Query(alert["alert"], alert["expr"]) for alert in ALERTS),
]


def labels_of(name: str) -> set[str]:
    """Return the labels that a time series may have."""
    return LABELS[name] | OF_PROMETHEUS | ({"le"} if name.endswith("_bucket") else set())


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_a_query_names_metrics_labels_and_values_that_exist(query: Query) -> None:
    series = re.findall(r"(oda_proxy_\w+)(?:\{([^}]*)\})?", query.text)
    names = {name for name, _ in series}
    assert names or query.text.startswith("up{")
    assert names <= set(LABELS)

    for name, selector in series:
        for label, _, value in re.findall(r'(\w+)(=~|!=|=|!~)"([^"]*)"', selector):
            assert label in labels_of(name), (name, label)
            assert label not in VALUES or set(value.split("|")) <= set(VALUES[label]), (label, value)
    grouped = {label for text in re.findall(r"\b(?:by|on) \(([^)]*)\)", query.text) for label in text.split(", ")}
    assert all(grouped <= labels_of(name) for name in names), grouped
    assert set(re.findall(r"\{\{(\w+)\}\}", query.legend)) <= grouped


def test_every_panel_has_a_title_and_a_place_of_its_own() -> None:
    places = []
    for panel in DASHBOARD["panels"]:
        assert panel["title"]
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        places.append((at["x"], at["x"] + at["w"], at["y"], at["y"] + at["h"]))
    for (left, right, top, bottom), (left2, right2, top2, bottom2) in combinations(places, 2):
        assert right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top


def test_identifiers_of_panels_differ_and_every_query_uses_the_chosen_source_and_servers() -> None:
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(identifiers) == len(set(identifiers))
    for panel in PANELS:
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            series = re.findall(r"oda_proxy_\w+", target["expr"])
            assert target["expr"].count('instance=~"$instance"') == len(series)
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "instance"]


def test_every_metric_but_a_few_is_shown_or_has_an_alert() -> None:
    shown = "\n".join(query.text for query in QUERIES)
    hidden = [metric for metric in METRICS if not re.search(rf"\b{metric.name}(_bucket)?\b", shown)]

    assert {metric.short_name for metric in hidden} == {
        "hot_tier_entries",
        "job_ids_shared_total",
        "jobs_followed",
        "store_failures_total",
    }


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
def test_an_alert_says_what_is_wrong_and_what_follows(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert "{{ $labels.instance }}" in alert["annotations"]["summary"]
    assert alert["annotations"]["description"].endswith(".")


def test_counters_are_read_as_rates() -> None:
    counters = {name for metric in METRICS if metric.kind is not Kind.GAUGE for name in metric.sample_names}
    for query in QUERIES:
        for before, name in re.findall(r"(\w*)\(?(oda_proxy_\w+)", query.text):
            assert (name in counters) == (before in {"rate", "increase"}), query.name


def test_promtool_accepts_the_alerts_and_every_query_of_the_dashboard(tmp_path: Path) -> None:
    if (program := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    queries = [query.text.replace("$__rate_interval", "5m").replace("$__range", "1d") for query in QUERIES]
    rules = [{"record": f"query:{number}", "expr": text} for number, text in enumerate(queries)]
    (file := tmp_path / "queries.yml").write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))

    for one in (file, RULES):
        done = subprocess.run([program, "check", "rules", str(one)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_alerts_are_about_what_they_say(tmp_path: Path) -> None:
    if (program := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    (file := tmp_path / "alerts.yml").write_text(ALERT_TESTS.read_text().replace("RULES", str(RULES)))
    done = subprocess.run([program, "test", "rules", str(file)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
