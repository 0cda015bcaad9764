"""The view of the status of the server: its members, with names and units that a person reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.pages import quantities
from oda_proxy.query.message_text import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MAX_VALUE: Final = 500
MAX_DEPTH: Final = 4
"""Levels of members within members that are shown."""


@dataclass(frozen=True, slots=True)
class StatusFact:
    """A member and its value."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class StatusGroup:
    """Members that belong together."""

    name: str
    facts: Sequence[StatusFact]


_GROUPS: Final = {
    "asking": "Dispatcher",
    "hot_tier": "Recordings in memory",
    "latencies": "Time until the answer is sent",
    "limits": "Limits",
    "run_analysis": "Queries since the start",
    "store": "Store",
    "workers": "Workers",
}
_NAMES: Final = {
    "asking": "requests to the dispatcher",
    "asked": "sent to the dispatcher",
    "kept": "answers stored",
    "jobs": "jobs submitted",
    "joined": "clients that joined a job",
    "echo_differs": "answers that contradict their query",
    "job_ids_shared": "job ids with two queries",
    "unsafe": "answers that would run a program",
    "occupied": "size",
    "entries": "recordings",
    "free": "free on the disk",
    "p50": "median",
    "p95": "95 of 100 within",
    "p99": "99 of 100 within",
    "under_way": "requests under way",
    "waiting": "requests waiting",
    "failures": "failures in a row",
}
_FORMATS: Final[Mapping[str, Callable[[float], str]]] = {
    "occupied": quantities.size,
    "free": quantities.size,
    "size": quantities.size,
    "max_size": quantities.size,
    "min_free": quantities.size,
    "memory": quantities.size,
    "p50": quantities.span,
    "p95": quantities.span,
    "p99": quantities.span,
    "since": lambda at: f"{quantities.moment(at)} UTC",
    "until": lambda at: f"{quantities.moment(at)} UTC",
    "started_at": lambda at: f"{quantities.moment(at)} UTC",
    "uptime": quantities.span,
}


def groups_of(status: Mapping[str, Any]) -> list[StatusGroup]:
    """Return the members of `/-/status` in groups, in their order; members of members have both names."""
    single: list[StatusFact] = []
    groups = []
    for name, value in status.items():
        if isinstance(value, dict):
            facts = list(_facts(value, "", MAX_DEPTH))
            groups.append(StatusGroup(_GROUPS.get(name, _readable(name)), facts or [StatusFact("none", "")]))
        else:
            single.append(StatusFact(_readable(name), _text(name, value)))
    return [StatusGroup("Server", single), *groups]


def _facts(members: Mapping[str, Any], before: str, depth: int) -> list[StatusFact]:
    facts: list[StatusFact] = []
    for name, value in members.items():
        label = f"{before}{_readable(name)}"
        if isinstance(value, dict) and value and depth > 1:
            facts += _facts(value, f"{label}: ", depth - 1)
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value) and depth > 1:
            for number, one in enumerate(value, 1):
                facts += _facts(one, f"{label} {number}: ", depth - 1)
        else:
            facts.append(StatusFact(shorten(label, MAX_VALUE), _text(name, value)))
    return facts


def _readable(name: str) -> str:
    return _NAMES.get(name, name.replace("_", " ").replace("-", " "))


def _text(name: str, value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and name in _FORMATS:
        return _FORMATS[name](value)
    if isinstance(value, int):
        return quantities.number(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return shorten(str(value), MAX_VALUE)
