"""Scenarios: named sets of faults and of changes to jobs, read from TOML files (format: docs/mock.md)."""

from __future__ import annotations

import copy
import json
import tomllib
from collections import Counter
from dataclasses import dataclass, field, fields
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, get_args

from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

FaultKind: TypeAlias = Literal[
    "status",
    "hang",
    "cut-json",
    "cut-connection",
    "html",
    "expire-token",
    "change-job-id",
    "redirect",
    "drip",
    "recalibrate",
]

_MAX_FILE_SIZE: Final = 2**20
# Polls after which a fault that has not struck yet is not waited for.
_MAX_SIMULATED_POLLS: Final = 100
_SCENARIO_KEYS: Final[dict[str, tuple[type, ...]]] = {
    "summary": (str,),
    "time_scale": (int, float),
    "outcome": (str,),
    "faults": (list,),
}
_FAULT_KEYS: Final[dict[str, tuple[type, ...]]] = {
    "do": (str,),
    "route": (str,),
    "methods": (list,),
    "asked": (list,),
    "on": (list,),
    "from": (int,),
    "chance": (int, float),
    "status": (int,),
    "seconds": (int, float),
    "factor": (int, float),
}
# Fields of `Fault` with another name than the key in the file.
_FIELDS: Final = {"do": "kind", "asked": "query_statuses", "from": "since"}
_ITEM_TYPES: Final[dict[str, type]] = {"methods": str, "asked": str, "on": int}
_BOUNDS: Final[dict[str, tuple[float, float]]] = {
    "time_scale": (0, 1e6),
    "on": (1, 2**31),
    "from": (1, 2**31),
    "chance": (0, 1),
    "status": (200, 599),
    "seconds": (0, 86400),
    "factor": (-1e30, 1e30),
}
"""The least and the greatest value of each number, also in a list."""
_METHODS: Final = ("GET", "HEAD", "POST")
"""Methods of the routes of a dispatcher."""


@dataclass(frozen=True)
class Fault:
    """A fault that strikes some requests.

    Attributes
    ----------
    kind
        What goes wrong (`do` in the file).
    route
        The route that it applies to.
    methods, query_statuses
        HTTP methods and values of `query_status` (`asked` in the file) that it applies to; empty: all.
    on, since
        Which of the matching requests it strikes, counted from 1: these, or all from that one on (`from` in the file).
        Neither: all.
    chance
        The probability for each matching request.
    status
        HTTP status, for `status` and `redirect`.
    seconds
        Pause, for `hang` and `drip`.
    factor
        What the values of products are multiplied by, for `recalibrate`.
    """

    kind: FaultKind
    route: str = "run_analysis"
    methods: tuple[str, ...] = ()
    query_statuses: tuple[str, ...] = ()
    on: tuple[int, ...] = ()
    since: int = 1
    chance: float = 1.0
    status: int = 502
    seconds: float = 0.0
    factor: float = 1.1

    def __str__(self) -> str:
        """Return the fault in the form of a scenario file, on one line."""
        return ", ".join(f"{key} = {json.dumps(value)}" for key, value in self.table().items())

    def table(self) -> dict[str, Any]:
        """Return the fault as a table of a scenario file, without defaults."""
        default = Fault(self.kind)
        keys = {field: key for key, field in _FIELDS.items()}
        values = {keys.get(one.name, one.name): getattr(self, one.name) for one in fields(self)}
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in values.items()
            if key == "do" or value != getattr(default, _FIELDS.get(key, key))
        }

    def matches(self, route: str, method: str, query_status: str) -> bool:
        """Return whether the fault applies to such requests."""
        return (
            route == self.route
            and (not self.methods or method in self.methods)
            and (not self.query_statuses or query_status in self.query_statuses)
        )


@dataclass(frozen=True)
class Scenario:
    """A named set of faults; `outcome` is the result of all jobs, None for that of their fixtures."""

    name: str = ""
    summary: str = ""
    time_scale: float = 1.0
    outcome: Literal["failed"] | None = None
    faults: tuple[Fault, ...] = ()


@dataclass
class FaultPlan:
    """Chooses the fault of each request; the same seed and requests give the same faults.

    `struck` counts, by position in `faults`, the requests on which a fault had an effect. Faults at the positions in
    `switched_off` do not strike.
    """

    faults: tuple[Fault, ...]
    random: random.Random
    struck: Counter[int] = field(default_factory=Counter)
    switched_off: set[int] = field(default_factory=set)
    _counts: Counter[int] = field(default_factory=Counter)

    def add(self, fault: Fault) -> int:
        """Add a fault, or switch it on again, and return its position."""
        if fault not in self.faults:
            self.faults = (*self.faults, fault)
        place = self.faults.index(fault)
        self.switch_on(place)
        return place

    def switch_on(self, place: int) -> None:
        """Let a fault strike; requests are counted from now."""
        self.switched_off.discard(place)
        self.struck[place] = self._counts[place] = 0

    def reset(self, faults: tuple[Fault, ...], seed: int) -> None:
        """Begin again with these faults, none of which has struck."""
        self.faults = faults
        self.random.seed(seed)
        self.switched_off.clear()
        self.struck.clear()
        self._counts.clear()

    def _matching(self, route: str, method: str, query_status: str) -> Iterator[tuple[int, Fault]]:
        """Yield the faults that apply to such requests, with their positions."""
        for place, fault in enumerate(self.faults):
            if place not in self.switched_off and fault.matches(route, method, query_status):
                yield place, fault

    def next(self, route: str, method: str, query_status: str) -> Fault | None:
        """Return the fault of the next request, the first that strikes, or None."""
        chosen = None
        for place, fault in self._matching(route, method, query_status):
            self._counts[place] += 1
            count = self._counts[place]
            is_due = count in fault.on if fault.on else count >= fault.since
            happens = fault.chance >= 1 or self.random.random() < fault.chance
            if chosen is None and is_due and happens:
                chosen = fault
        return chosen

    def note_strike(self, fault: Fault) -> None:
        """Count a request on which a fault had an effect."""
        self.struck[self.faults.index(fault)] += 1

    def polls_needed(self, *, takes_time: bool) -> Polls:
        """Return how many polls a job must take so that each fault that has not struck can strike.

        Jobs that take no time, or less than the pauses of a client, would end before a fault on a later poll; and
        products of a job that takes no time are not fetched by a request of their own. The next polls are simulated
        with a copy of the plan, because the seed decides on faults with a chance.
        """
        plan = FaultPlan(
            self.faults, copy.deepcopy(self.random), self.struck.copy(), self.switched_off, self._counts.copy()
        )
        submitted = plan._simulate("submitted")
        progress = plan._simulate("progress")
        is_fetched = (
            takes_time
            or progress
            or all(plan.struck[place] for place, _ in self._matching("run_analysis", "GET", "ready"))
        )
        return Polls(submitted or int(not is_fetched), progress)

    def _simulate(self, query_status: str) -> int:
        """Return the number of polls with a `query_status` until the last fault that polls can cause has struck."""
        needed = 0
        for count in range(1, _MAX_SIMULATED_POLLS + 1):
            waiting = [
                place
                for place, fault in self._matching("run_analysis", "GET", query_status)
                if not self.struck[place] or self._counts[place] < max(fault.on, default=0)
            ]
            if not waiting:
                break
            fault = self.next("run_analysis", "GET", query_status)
            if fault is not None:
                self.note_strike(fault)
                if self.faults.index(fault) in waiting:  # else it hides those that wait, whatever the number of polls
                    needed = count
        return needed


class Polls(NamedTuple):
    """The minimum number of polls of a job while it is submitted, and then while it is in progress."""

    submitted: int = 0
    progress: int = 0


NO_POLLS: Final = Polls()


def find_scenario(name: str | None, extra_files: tuple[Path, ...] = ()) -> Scenario:
    """Return a scenario by name, from extra files or the shipped one; for None, a scenario without faults.

    Raises
    ------
    UsageError
        There is no such scenario, or a file does not follow the format.
    """
    if name is None:
        return Scenario()
    scenarios = load_scenarios(extra_files)
    if name not in scenarios:
        raise UsageError(f"there is no scenario {name!r}: choose one of {', '.join(sorted(scenarios))}")
    return scenarios[name]


def load_scenarios(extra_files: tuple[Path, ...] = ()) -> dict[str, Scenario]:
    """Read the shipped scenarios and those of extra files, which replace shipped ones; raises UsageError."""
    scenarios = _read("scenarios.toml", files(__package__).joinpath("scenarios.toml").read_text(encoding="utf-8"))
    for file in extra_files:
        try:
            with file.open("rb") as stream:
                content = stream.read(_MAX_FILE_SIZE + 1)
            if len(content) > _MAX_FILE_SIZE:
                raise UsageError(f"{file}: is larger than {_MAX_FILE_SIZE} bytes")
            scenarios |= _read(str(file), content.decode())
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file}: cannot be read: {error}") from None
    return scenarios


def read_faults(tables: Sequence[Any]) -> tuple[Fault, ...]:
    """Read faults in the form of a scenario file; raises UsageError."""
    return tuple(_fault("faults", table) for table in tables)


def _read(source: str, text: str) -> dict[str, Scenario]:
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{source}: {error}") from None
    return {name: _scenario(f"{source}: {name}", name, table) for name, table in tables.items()}


def _scenario(place: str, name: str, table: Any) -> Scenario:
    _check(place, table, _SCENARIO_KEYS)
    if table.get("outcome") not in (None, "failed"):
        raise UsageError(f"{place}: the outcome can be 'failed', not {table['outcome']!r}")
    return Scenario(
        name=name,
        summary=table.get("summary", ""),
        time_scale=float(table.get("time_scale", 1.0)),
        outcome=table.get("outcome"),
        faults=tuple(_fault(place, entry) for entry in table.get("faults", [])),
    )


def _fault(place: str, table: Any) -> Fault:
    _check(f"{place}: a fault", table, _FAULT_KEYS)
    if "do" not in table:
        raise UsageError(f"{place}: a fault needs 'do': one of {', '.join(get_args(FaultKind))}")
    if table["do"] not in get_args(FaultKind):
        raise UsageError(f"{place}: there is no fault {table['do']!r}: choose one of {', '.join(get_args(FaultKind))}")
    if "on" in table and "from" in table:
        raise UsageError(f"{place}: a fault can have 'on' or 'from', not both")
    if wrong := [method for method in table.get("methods", []) if method not in _METHODS]:
        raise UsageError(f"{place}: a fault: methods can be {', '.join(_METHODS)}, not {wrong[0]!r}")
    values: dict[str, Any] = {_FIELDS.get(key, key): value for key, value in table.items()}
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return Fault(**{**values, **lists})


def _check(place: str, table: Any, kinds: Mapping[str, tuple[type, ...]]) -> None:
    """Check the names and types of a table."""
    if not isinstance(table, dict):
        raise UsageError(f"{place} should be a table, not {table!r}")
    for key, value in table.items():
        if key not in kinds:
            raise UsageError(f"{place} has no {key!r}: it can have {', '.join(sorted(kinds))}")
        members = value if isinstance(value, list) else [value]
        types = (_ITEM_TYPES.get(key, object),) if isinstance(value, list) else kinds[key]
        fits = isinstance(value, kinds[key]) and all(_has_type(member, types) for member in members)
        if not fits:
            raise UsageError(f"{place}: {key} cannot be {value!r}")
        bounds = _BOUNDS.get(key)
        if bounds is not None and not all(bounds[0] <= member <= bounds[1] for member in members):
            raise UsageError(f"{place}: {key} cannot be {value!r}: it can be from {bounds[0]:g} to {bounds[1]:g}")


def _has_type(value: Any, types: tuple[type, ...]) -> bool:
    return isinstance(value, types) and (object in types or not isinstance(value, bool))
