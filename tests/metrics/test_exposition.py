"""The text for Prometheus, read with the parsers of its client library and, where it is installed, with promtool."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

from oda_proxy.metrics.catalogue import METRICS, PREFIX, Kind
from oda_proxy.metrics.exposition import encode
from oda_proxy.metrics.histogram import Histogram
from oda_proxy.metrics.snapshot import Snapshot, counters_of, from_json, to_json, total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.metrics_core import Metric as Family


def snapshot() -> Snapshot:
    """Return a value for each metric, with labels that need escaping."""
    values: dict[str, dict[tuple[str, ...], tuple[float, ...]]] = {}
    for metric in METRICS:
        labels = tuple(f'{label} "with" \\ and\nbreak' for label in metric.labels)
        histogram = Histogram(metric.bounds)
        histogram.add(2.0)
        values[metric.short_name] = {labels: histogram.values if metric.kind is Kind.HISTOGRAM else (3.0,)}
    return values


def test_both_formats_have_every_metric_with_its_type_and_labels() -> None:
    text, content_type = encode(snapshot(), "")
    found = {family.name: family for family in parser.text_string_to_metric_families(text.decode())}
    open_text, open_type = encode(snapshot(), "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    read_open: Callable[[str], Iterable[Family]] = openmetrics.text_string_to_metric_families
    open_found = {family.name: family for family in read_open(open_text.decode())}

    assert content_type.startswith("text/plain")
    assert open_type.startswith("application/openmetrics-text")
    for families in (found, open_found):
        for metric in METRICS:
            family = families[metric.name.removesuffix("_total")]
            assert (family.type, family.documentation) == (metric.kind.value, metric.help)
            assert {sample.name for sample in family.samples} == set(metric.sample_names)
            labels = {name: f'{name} "with" \\ and\nbreak' for name in metric.labels}
            assert all(sample.labels.items() >= labels.items() for sample in family.samples)
    assert len(found) == len(METRICS)


def test_names_follow_the_conventions_of_prometheus() -> None:
    for metric in METRICS:
        assert re.fullmatch(rf"{PREFIX}[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
        assert metric.help.endswith(".")
        assert (metric.kind is Kind.HISTOGRAM) == bool(metric.bounds)


def test_promtool_finds_nothing_to_improve() -> None:
    if (program := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    text, _ = encode(snapshot(), "")
    done = subprocess.run([program, "check", "metrics"], input=text, capture_output=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_counters_and_histograms_are_added_up_and_gauges_of_the_store_are_the_leaders() -> None:
    both = total([snapshot(), snapshot()])

    for metric in METRICS:
        ((_, one),) = snapshot()[metric.short_name].items()
        ((_, value),) = both[metric.short_name].items()
        factor = 2 if metric.total.value == "sum" else 1
        assert value == tuple(factor * part for part in one)
        assert metric.kind is Kind.GAUGE or factor == 2


def test_a_snapshot_survives_json() -> None:
    assert from_json(to_json(snapshot())) == snapshot()
    assert from_json({**to_json(snapshot()), "of_a_later_release": [[[], [1]]]}) == snapshot()


def test_what_is_saved_of_a_worker_only_grows() -> None:
    saved = counters_of(snapshot())

    assert set(saved) == {metric.short_name for metric in METRICS if metric.kind is not Kind.GAUGE}
