"""Which fixture answers a query."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from oda_proxy.fixture.reading import Fixture

_DUMMY: Final = "Dummy"


@dataclass(frozen=True)
class Question:
    """What a query asks for; `parameters` are the decisive ones, normalised, `files` maps names to SHA-256."""

    instrument: str
    product: str
    query_type: str
    parameters: Mapping[str, Any]
    api: bool = True
    files: Mapping[str, str] = field(default_factory=dict)

    def key(self) -> Hashable:
        """Return what two questions share exactly if one answer serves both.

        Numbers are compared as numbers, catalogues as JSON; the order of lists counts. Null and an empty list are the
        same as nothing. Any `query_type` but `Dummy` means `Real` to a dispatcher.
        """
        return frozenset(self.facts())

    def digest(self, seed: int) -> str:
        """Return a hash of the question and a seed, the same in every process."""
        return hashlib.sha256(f"{seed} {_ordered(self.key())}".encode()).hexdigest()

    def facts(self) -> Iterator[tuple[str, Hashable]]:
        """Give by name what a question is about, as it is compared."""
        yield "instrument", self.instrument
        yield "product_type", self.product
        yield "query_type", _DUMMY if self.query_type == _DUMMY else "Real"
        yield "api", self.api
        for name, value in self.parameters.items():
            if value is not None and value != []:
                yield name, _comparable(value)
        for name, digest in self.files.items():
            yield f"file {name}", digest


@dataclass(frozen=True)
class FixtureIndex:
    """Finds the fixture for a question."""

    questions: tuple[tuple[Question, Fixture], ...]
    _fixtures: dict[Hashable, Fixture] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        fixtures: dict[Hashable, Fixture] = {}
        for question, fixture in self.questions:
            fixtures.setdefault(question.key(), fixture)
        object.__setattr__(self, "_fixtures", fixtures)  # the one way to derive a field of a frozen dataclass

    def find(self, question: Question) -> Fixture | None:
        """Return the fixture that answers a question, the first of several."""
        return self._fixtures.get(question.key())


def _comparable(value: Any) -> Hashable:
    value = _read_catalog(value)
    if isinstance(value, dict):
        return frozenset((name, _comparable(member)) for name, member in value.items())
    if isinstance(value, list):
        return tuple(_comparable(member) for member in value)
    known: str | int | float | tuple[str, bool] | None
    known = ("boolean", value) if isinstance(value, bool) else value  # True would equal 1
    return known


def _ordered(value: Hashable) -> str:
    """Write what `_comparable` gives, equal things in equal words."""
    if isinstance(value, frozenset):
        return f"{{{','.join(sorted(map(_ordered, value)))}}}"
    if isinstance(value, tuple):
        return f"({','.join(map(_ordered, value))})"
    return repr(float(value)) if isinstance(value, int) and not isinstance(value, bool) else repr(value)


def _read_catalog(value: Any) -> Any:
    """Read a catalogue, which is sent as the JSON text of an object."""
    if not (isinstance(value, str) and value.startswith("{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
