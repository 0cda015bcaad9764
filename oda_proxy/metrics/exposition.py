"""The text of a snapshot for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from oda_proxy.metrics.catalogue import METRICS, Kind
from oda_proxy.metrics.histogram import cumulative

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.metrics_core import Metric as Family

    from oda_proxy.metrics.catalogue import Metric
    from oda_proxy.metrics.snapshot import Labels, Snapshot, Values


class SnapshotCollector(Collector):
    """The metrics of a snapshot, for `prometheus_client`; a metric without values is left out."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Family]:
        """Iterate over the metrics."""
        for metric in METRICS:
            if values := self._snapshot.get(metric.short_name):
                yield _family(metric, values)


def encode(snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
    """Return a snapshot as text, and its media type: OpenMetrics where the header `Accept` names it."""
    encoder, content_type = exposition.choose_encoder(accept)
    return encoder(SnapshotCollector(snapshot)), content_type


def _family(metric: Metric, values: Mapping[Labels, Values]) -> Family:
    if metric.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        bounds = [*map(floatToGoString, metric.bounds), "+Inf"]
        for labels, value in values.items():
            histogram.add_metric(labels, list(zip(bounds, cumulative(value), strict=True)), value[-1])
        return histogram
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, (number,) in values.items():
        family.add_metric(labels, number)
    return family
