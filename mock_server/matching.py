"""Which fixture answers a query."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from oda_proxy.fixture.reading import Fixture

DUMMY: Final = "Dummy"
"""The query_type of queries that return dummy products."""


@dataclass(frozen=True)
class NormalisedQuery:
    """A query as it is compared; `parameters` are those that the product depends on, `files` maps names to SHA-256."""

    instrument: str
    product: str
    query_type: str
    parameters: Mapping[str, Any]
    api: bool = True
    files: Mapping[str, str] = field(default_factory=dict)

    def key(self) -> Hashable:
        """Return a value that is equal for two queries exactly if the same fixture answers both.

        Numbers are compared as numbers, catalogues as JSON; the order of lists counts. Null and an empty list count
        as missing. A dispatcher reads any `query_type` but `Dummy` as `Real`.
        """
        return frozenset(self.items())

    def digest(self, seed: int) -> str:
        """Return a hash of the query and a seed; it is the same in every process."""
        return hashlib.sha256(f"{seed} {_ordered(self.key())}".encode()).hexdigest()

    def items(self) -> Iterator[tuple[str, Hashable]]:
        """Yield the names and values that are compared."""
        yield "instrument", self.instrument
        yield "product_type", self.product
        yield "query_type", DUMMY if self.query_type == DUMMY else "Real"
        yield "api", self.api
        for name, value in self.parameters.items():
            if value is not None and value != []:
                yield name, _comparable(value)
        for name, digest in self.files.items():
            yield f"file {name}", digest


@dataclass(frozen=True)
class FixtureIndex:
    """Finds the fixture of a query."""

    queries: tuple[tuple[NormalisedQuery, Fixture], ...]
    _fixtures: dict[Hashable, Fixture] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        fixtures: dict[Hashable, Fixture] = {}
        for query, fixture in self.queries:
            fixtures.setdefault(query.key(), fixture)
        object.__setattr__(self, "_fixtures", fixtures)  # the one way to derive a field of a frozen dataclass

    def find(self, query: NormalisedQuery) -> Fixture | None:
        """Return the first fixture with this query, or None."""
        return self._fixtures.get(query.key())

    def find_dummy(self, query: NormalisedQuery) -> Fixture | None:
        """Return the first fixture with a dummy product of the query's kind, whatever its parameters, or None."""
        wanted = (query.instrument, query.product, DUMMY, query.api)
        for other, fixture in self.queries:
            if (other.instrument, other.product, other.query_type, other.api) == wanted:
                return fixture
        return None


def _comparable(value: Any) -> Hashable:
    value = _read_catalog(value)
    if isinstance(value, dict):
        return frozenset((name, _comparable(member)) for name, member in value.items())
    if isinstance(value, list):
        return tuple(_comparable(member) for member in value)
    comparable: str | int | float | tuple[str, bool] | None
    comparable = ("boolean", value) if isinstance(value, bool) else value  # True would equal 1
    return comparable


def _ordered(value: Hashable) -> str:
    """Return a comparable value as text; equal values have equal texts."""
    if isinstance(value, frozenset):
        return f"{{{','.join(sorted(map(_ordered, value)))}}}"
    if isinstance(value, tuple):
        return f"({','.join(map(_ordered, value))})"
    return repr(float(value)) if isinstance(value, int) and not isinstance(value, bool) else repr(value)


def _read_catalog(value: Any) -> Any:
    """Parse a catalogue, which is sent as the JSON text of an object."""
    if not (isinstance(value, str) and value.startswith("{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
