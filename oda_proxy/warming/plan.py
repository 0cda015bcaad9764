"""Plans: the queries of a file, or of a capsule.

A file has one JSON object in a line, with the fields of a query as clients send them, or as the arguments of
`get_product`; empty lines and those that begin with `#` are skipped:

    {"instrument": "isgri", "product": "isgri_image", "T1": "2003-03-15T23:27:40.0", "E1_keV": 20, ...}

A TOML file has the same in tables `[[query]]`.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.drift.sources import Unusable, recordings_in, short_name
from oda_proxy.errors import BadQueryError, UsageError
from oda_proxy.files.archives import is_archive, open_tree
from oda_proxy.query.message_text import shorten
from oda_proxy.query.query import ENVELOPE, split_query
from oda_proxy.recordings.obstacles import rerun_obstacle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from oda_proxy.drift.sources import NamedRecording
    from oda_proxy.query.query import Query

LARGEST_FILE: Final = 64 * 1024 * 1024
"""Maximum size of a plan, in bytes: a query may have a catalogue."""
MAX_QUERIES: Final = 100_000
_LONGEST: Final = 60


@dataclass(frozen=True, slots=True)
class PlannedQuery:
    """A query to run; `refresh` to compute it again although there is a recording."""

    query: Query
    refresh: bool = False

    @property
    def name(self) -> str:
        """The query in a few words, for people: its position where it names no source."""
        values = {name: " ".join(words) for name, words in self.query.parameters}
        has_position = "src_name" not in values and {"RA", "DEC"} <= values.keys()
        position = f" at {shorten(values['RA'])} {shorten(values['DEC'])}" if has_position else ""
        return short_name(self.query) + position


@dataclass(frozen=True, slots=True)
class Skipped:
    """A recording whose query cannot be run, and why."""

    name: str
    reason: str


def read_plan(path: Path) -> list[PlannedQuery | Skipped]:
    """Read a plan: a file of queries, or a capsule. Raises UsageError, which names the line, and FixtureError."""
    if path.is_dir() or is_archive(path):
        with open_tree(path) as tree:
            return [_of_recording(one) for _, recordings in recordings_in(tree) for one in recordings]
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UsageError(f"the plan {path} is larger than {LARGEST_FILE} bytes")
        text = path.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the plan {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the plan {path} is not UTF-8 text: {error}") from error
    planned: dict[Query, PlannedQuery] = {}
    for place, members in _of_toml(path, text) if path.suffix == ".toml" else _of_lines(path, text):
        query = _query(place, members)
        planned[query] = PlannedQuery(query)
        if len(planned) > MAX_QUERIES:
            raise UsageError(f"the plan {path} has more than {MAX_QUERIES} queries")
    return list(planned.values())


def _of_recording(one: NamedRecording | Unusable) -> PlannedQuery | Skipped:
    if isinstance(one, Unusable):
        return Skipped(one.name, one.reason)
    one.recording.head.close()
    query = one.recording.query
    if one.recording.private:
        return Skipped(one.name, "it was requested with a token, and its person is not known")
    if query is None:
        return Skipped(one.name, "its query is unknown")
    reason = rerun_obstacle(query)
    return Skipped(one.name, reason) if reason else PlannedQuery(query)


def _of_lines(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not (line := line.strip()) or line.startswith("#"):
            continue
        place = f"line {number} of {path}"
        try:
            yield place, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{place} is not a query as JSON in one line: {shorten(str(error), _LONGEST)}") from error


def _of_toml(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    try:
        tables = tomllib.loads(text).get("query")
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the plan {path} is not valid TOML: {shorten(str(error), _LONGEST)}") from error
    if not isinstance(tables, list):
        raise UsageError(f"the plan {path} has no tables [[query]]")
    yield from ((f"query {number} of {path}", table) for number, table in enumerate(tables, 1))


def _query(place: str, members: Any) -> Query:
    """Return the query of an object. Raises UsageError."""
    if not isinstance(members, dict):
        raise UsageError(f"{place} is not an object: write the fields of a query in braces")
    if of_client := sorted(ENVELOPE & members.keys()):
        hint = ": --with-token sends ODA_TOKEN with each query" if "token" in of_client else ""
        raise UsageError(f"{place} has the field {of_client[0]!r}, which belongs to the client{hint}")
    fields = _as_sent(members)
    pairs = [(str(name), text) for name, value in fields.items() for text in _texts(place, name, value)]
    try:
        query, _ = split_query([*pairs, ("api", "True")])
    except BadQueryError as error:
        raise UsageError(f"{place} is not a query: {error}") from error
    return query


def _as_sent(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that the client sends for the arguments of `get_product`; others are unchanged."""
    fields = dict(members)
    fields.pop("api", None)
    if "product" in fields:
        product = fields.pop("product")
        fields["query_type"] = fields.pop("product_type", fields.get("query_type", "Real"))
        fields["product_type"] = product
    return fields


def _texts(place: str, name: str, value: Any) -> Iterable[str]:
    """Return the values of a field as text. Raises UsageError."""
    match value:
        case bool() | int() | float() | str():
            return [str(value)]
        case datetime() | date():
            return [value.isoformat()]
        case list() if all(isinstance(one, bool | int | float | str) for one in value):
            return [str(one) for one in value]
        case dict() | list():
            return [json.dumps(value)]  # a catalogue
    raise UsageError(f"{place} has no value for {name!r}: leave the field out")
