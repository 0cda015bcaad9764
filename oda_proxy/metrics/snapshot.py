"""The values of all metrics at one moment, which can be added up and sent as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from oda_proxy.metrics.catalogue import BY_NAME, Kind, Total

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Labels: TypeAlias = tuple[str, ...]
Values: TypeAlias = tuple[float, ...]
"""One number; of a histogram the count of each bucket and the sum of all durations."""
Snapshot: TypeAlias = "Mapping[str, Mapping[Labels, Values]]"
"""Values by the short name of a metric and by its labels."""


def counters_of(snapshot: Snapshot) -> Snapshot:
    """Return the values that only ever grow: counters and histograms."""
    return {name: values for name, values in snapshot.items() if BY_NAME[name].kind is not Kind.GAUGE}


def total(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Add up the snapshots of several processes; the first is that of the leader."""
    result: dict[str, dict[Labels, Values]] = {}
    for number, snapshot in enumerate(snapshots):
        for name, values in snapshot.items():
            if number and BY_NAME[name].total is Total.LEADER:
                continue
            known = result.setdefault(name, {})
            for labels, value in values.items():
                known[labels] = _sum(known[labels], value) if labels in known else value
    return result


def _sum(one: Values, other: Values) -> Values:
    return tuple(first + second for first, second in zip(one, other, strict=True))


def to_json(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot as JSON has it."""
    return {name: [[*map(list, pair)] for pair in values.items()] for name, values in snapshot.items()}


def from_json(members: Any) -> Snapshot:
    """Return the snapshot in JSON of `to_json`; what this release does not know is left out.

    Raises ValueError, TypeError or AttributeError where it is none.
    """
    return {
        name: {tuple(map(str, labels)): tuple(map(float, value)) for labels, value in pairs}
        for name, pairs in members.items()
        if name in BY_NAME
    }
