"""The state of a server with several workers: counts are added up, the rest is the leader's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oda_proxy.web.pages import latencies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def add_up(pages: Sequence[tuple[int, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the members of `/-/status`; `pages` are the numbers of the workers and their own pages, the leader first.

    `workers` lists the workers. Failures of the store that several have are one, since the first of them.
    """
    leader = pages[0][1]["status"]
    statuses = [page["status"] for _, page in pages]
    counts = [status["run_analysis"] for status in statuses]
    faults: dict[tuple[str, str], dict[str, Any]] = {}
    for fault in (fault for status in statuses for fault in status["store"]["faults"]):
        same = faults.setdefault((fault["doing"], fault["message"]), {**fault, "times": 0})
        same["times"] += fault["times"]
        same["since"] = min(same["since"], fault["since"])
    tiers = [status["hot_tier"] for status in statuses]
    durations = _add_durations([page["durations"] for _, page in pages])
    return {
        **leader,
        "limits": {**leader["limits"], "memory": sum(status["limits"]["memory"] for status in statuses)},
        "latencies": latencies(durations),
        "hot_tier": {name: sum(tier[name] for tier in tiers) for name in tiers[0]},
        "run_analysis": {name: _sum([count[name] for count in counts]) for name in counts[0]},
        "store": {**leader["store"], "faults": list(faults.values())},
        "workers": [
            {"number": number + 1, "pid": page["pid"], "leads": page is pages[0][1], "hits": count["hits"]}
            for (number, page), count in sorted(zip(pages, counts, strict=True), key=lambda one: one[0][0])
        ],
    }


def _add_durations(all_durations: list[dict[str, list[float]]]) -> dict[str, list[float]]:
    """Add up the durations of requests, as `durations_of` returns them."""
    return {
        outcome: [sum(values) for values in zip(*(durations[outcome] for durations in all_durations), strict=True)]
        for outcome in all_durations[0]
    }


def _sum(values: list[Any]) -> Any:
    """Return the sum of counts, or of the counts of each name."""
    if not isinstance(values[0], dict):
        return sum(values)
    names = dict.fromkeys(name for value in values for name in value)
    return {name: sum(value.get(name, 0) for value in values) for name in names}
