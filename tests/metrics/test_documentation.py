"""The documentation of the metrics."""

from __future__ import annotations

from oda_proxy.metrics.catalogue import METRICS
from oda_proxy.metrics.outcomes import OUTCOMES
from tests.support.paths import CHECKOUT

DOCUMENT = CHECKOUT / "docs/metrics.md"


def table() -> list[str]:
    """Return the lines of the table of metrics."""
    return [
        f"| `{metric.name}` | {metric.kind.value} | {', '.join(f'`{one}`' for one in metric.labels)} | {metric.help} |"
        for metric in METRICS
    ]


def test_the_table_has_every_metric_and_no_other() -> None:
    documented = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `oda_proxy_")]

    assert documented == table()


def test_every_outcome_is_explained() -> None:
    documented = [line.split("`")[1] for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]

    assert [name for name in documented if name in OUTCOMES] == list(OUTCOMES)
