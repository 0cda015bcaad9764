"""The view of one recording: its query with units, where it came from, and the timeline of its job."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from oda_proxy.pages import quantities
from oda_proxy.query.message_text import printable, shorten
from oda_proxy.query.query import NUL
from oda_proxy.query.schema import TIME_FORMAT
from oda_proxy.query.subject import SOURCE, subject_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oda_proxy.query.query import Query
    from oda_proxy.query.schema import Parameter, Schema
    from oda_proxy.query.subject import Subject
    from oda_proxy.store.base import Entry

MAX_NAME: Final = 120
MAX_VALUE: Final = 80
"""Longest value that is shown beside its name, in characters; of a longer one the begin, and all can be opened."""
BEGIN: Final = 40
"""Characters of the begin of a longer value."""
MAX_REMARK: Final = 2000
MAX_FULL_VALUE: Final = 100_000
"""Longest value that is shown at all, in characters."""

_FIRST: Final = (SOURCE, "RA", "DEC", "T1", "T2", TIME_FORMAT)
"""Parameters that a person looks for first, in this order."""
_UNITS: Final = {"RA": "deg", "DEC": "deg", "radius": "deg", "E1_keV": "keV", "E2_keV": "keV"}
"""Units of parameters where the dispatcher has not described the instrument."""
_STATES: Final = {
    "new": "first request",
    "submitted": "submitted",
    "progress": "in progress",
    "ready": "ready",
    "done": "products complete",
    "failed": "failed",
}


@dataclass(frozen=True, slots=True)
class ParameterRow:
    """A parameter of the query."""

    name: str
    value: str
    unit: str
    full_value: str = ""
    """The whole value, in lines, where it does not fit in one."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """A state of the job; `begin` and `length` are fractions of the duration of the job."""

    name: str
    state: str
    after: str
    begin: float
    length: float


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact about the recording, with a remark."""

    name: str
    value: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version of the recording: since when it was the answer, and until when."""

    since: str
    until: str
    size: str


@dataclass(frozen=True, slots=True)
class RecordingView:
    """A recording as its page shows it."""

    key: str
    title: str
    instrument: str
    source: str
    subtitle: str
    flags: tuple[str, ...]
    is_pinned: bool
    parameters: Sequence[ParameterRow]
    defaults: Sequence[ParameterRow]
    """Parameters that the dispatcher filled in."""
    files: Sequence[Fact]
    facts: Sequence[Fact]
    stages: Sequence[Stage]
    remarks: Sequence[str]
    """What the dispatcher remarked in its answer."""


def view_of(
    entry: Entry,
    *,
    schema: Schema | None,
    timeline: Sequence[tuple[str, float]],
    exit_status: Mapping[str, object],
    other_members: Mapping[str, object],
    dispatcher: str,
    version: str,
    now: float,
) -> RecordingView:
    """Return the view of a recording.

    `schema` describes its instrument, `timeline` has the states of its job with s after the first request,
    `dispatcher` is the address of its dispatcher, which may name versions among the `other_members` of its answer,
    `version` is that of this program; `now` is in s since 1970 (UTC).
    """
    query, subject = entry.query, subject_of(entry.query)
    described = schema.products.get(query.product_type, {}) if schema and query else {}
    flags = (("pinned", entry.pinned), ("private", entry.private))
    return RecordingView(
        key=entry.key,
        title=shorten(query.product_type, MAX_NAME) if query else "unknown query",
        instrument=shorten(query.instrument, MAX_NAME) if query else "",
        source=shorten(", ".join(subject.sources), MAX_NAME),
        subtitle=_subtitle(subject),
        flags=tuple(name for name, is_so in flags if is_so),
        is_pinned=entry.pinned,
        parameters=_parameters(query, described),
        defaults=_defaults(query, described),
        files=[Fact(shorten(name, MAX_NAME), f"SHA-256 {digest}") for name, digest in query.files] if query else [],
        facts=_facts(entry, dispatcher, _versions(other_members), version, now),
        stages=stages_of(timeline, entry.cost),
        remarks=_remarks(exit_status),
    )


def version_rows(versions: Sequence[Entry]) -> list[VersionRow]:
    """Return the versions of a recording, the last one first; none where there is only the recording itself."""
    if len(versions) < 2:  # noqa: PLR2004 - a history has two
        return []
    return [
        VersionRow(
            since=quantities.moment(one.valid_from),
            until="today" if one.valid_until is None else quantities.moment(one.valid_until),
            size=quantities.size(one.size),
        )
        for one in reversed(versions)
    ]


def stages_of(timeline: Sequence[tuple[str, float]], duration: float) -> list[Stage]:
    """Return the stages of a job, each until the next begins; none where there is no more than one moment."""
    moments = sorted(((state, max(at, 0.0)) for state, at in timeline), key=lambda moment: moment[1])
    end = max([duration, *(at for _, at in moments)], default=0.0)
    if not moments or end <= 0:
        return []
    ends = [at for _, at in moments[1:]] + [end]
    return [
        Stage(
            name=_STATES.get(state, shorten(state, MAX_NAME)),
            state=state if state in _STATES else "other",
            after=quantities.span(at) if at > 0 else "0" + quantities.NO_BREAK + "s",
            begin=at / end,
            length=(until - at) / end,
        )
        for (state, at), until in zip(moments, ends, strict=True)
    ]


def _subtitle(subject: Subject) -> str:
    position = ""
    if subject.position is not None:
        ra, dec = quantities.position(subject).split(quantities.NO_BREAK)
        position = f"RA {ra}, Dec {dec} deg"
    return " · ".join(filter(None, (position, quantities.full_time_range(subject))))


def _parameters(query: Query | None, described: Mapping[str, Parameter]) -> list[ParameterRow]:
    if query is None:
        return []
    places = {name: place for place, name in enumerate(_FIRST)}
    ordered = sorted(query.parameters, key=lambda pair: places.get(pair[0], len(places)))
    sent = dict(query.parameters)
    return [_row(name, values, described.get(name), sent) for name, values in ordered]


def _row(
    name: str, values: Sequence[str], parameter: Parameter | None, sent: Mapping[str, Sequence[str]]
) -> ParameterRow:
    text = ", ".join("none" if value == NUL else value for value in values)
    row = ParameterRow(shorten(name, MAX_NAME), shorten(text, MAX_VALUE), unit_of(name, parameter, sent))
    if len(text) <= MAX_VALUE:
        return row
    row = ParameterRow(row.name, shorten(text, BEGIN), row.unit)
    full = _lines(text) if len(text) <= MAX_FULL_VALUE else text[:MAX_FULL_VALUE] + "..."
    return ParameterRow(row.name, row.value, row.unit, full_value=_printable_lines(full))


def unit_of(name: str, parameter: Parameter | None, sent: Mapping[str, Sequence[str]]) -> str:
    """Return the unit of a parameter: that which the request names, the description, or else the usual one."""
    if parameter and parameter.written_by:
        written = next(iter(sent.get(parameter.written_by, ())), "")
        if parameter.written_by == TIME_FORMAT and not written:
            return "UTC"
        if written:
            return _time_unit(written) if parameter.written_by == TIME_FORMAT else shorten(written)
    if parameter and parameter.unit:
        return "" if parameter.unit == "str" else _time_unit(parameter.unit)
    if name in {"T1", "T2"}:
        return _time_unit(next(iter(sent.get(TIME_FORMAT, ())), "isot"))
    return _UNITS.get(name, "")


def _time_unit(time_format: str) -> str:
    names = {"isot": "UTC", "iso": "UTC", "mjd": "MJD", "jd": "JD", "unix": "s since 1970"}
    return names.get(time_format, shorten(time_format))


def _defaults(query: Query | None, described: Mapping[str, Parameter]) -> list[ParameterRow]:
    sent = dict(query.parameters) if query else {}
    rows = []
    for name, parameter in described.items():
        if name in sent or not parameter.filled_in or parameter.default in {None, ""}:
            continue
        values = parameter.default if isinstance(parameter.default, tuple) else (parameter.default or "",)
        if values:
            unit = "" if parameter.unit == "str" else _time_unit(parameter.unit)
            rows.append(ParameterRow(shorten(name, MAX_NAME), shorten(", ".join(values), MAX_VALUE), unit))
    return rows


def _versions(members: Mapping[str, object]) -> list[Fact]:
    """Return the versions that a dispatcher names in its answer; most name none."""
    return [
        Fact(printable(name.replace("_", " ")), shorten(value, MAX_VALUE))
        for name, value in members.items()
        if "version" in name and isinstance(value, str) and value
    ]


def _facts(entry: Entry, dispatcher: str, versions: Sequence[Fact], version: str, now: float) -> list[Fact]:
    stored = f"{quantities.moment(entry.stored_at)} UTC"
    facts = [
        Fact("dispatcher", printable(dispatcher), "where it was computed"),
        *versions,
        Fact("stored", stored, quantities.age(entry.stored_at, now)),
        Fact("last used", quantities.age(entry.used_at, now)),
        Fact("computing time", quantities.span(entry.cost), "saved by each hit") if entry.cost > 0 else None,
        Fact("size", quantities.size(entry.size), f"{quantities.size(entry.stored_size)} on the disk"),
        Fact("query type", shorten(entry.query.query_type, MAX_NAME)) if entry.query else None,
        Fact("kept from eviction", "pinned") if entry.pinned else None,
        Fact("for", "those who may see the results of its token") if entry.private else None,
        Fact("served by", f"oda-proxy {version}"),
    ]
    return [fact for fact in facts if fact is not None]


def _remarks(exit_status: Mapping[str, object]) -> list[str]:
    texts = (exit_status.get(name) for name in ("message", "warning", "comment"))
    return [shorten(text.strip(), MAX_REMARK) for text in texts if isinstance(text, str) and text.strip()]


def _lines(text: str) -> str:
    """Return a value in lines: JSON indented, a list with one item in each."""
    if text.lstrip().startswith(("{", "[")):
        try:
            return json.dumps(json.loads(text), indent=1, ensure_ascii=False)
        except (ValueError, RecursionError):
            return text
    return text.replace(",", ",\n")


def _printable_lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))
