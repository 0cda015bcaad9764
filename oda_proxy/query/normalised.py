"""A query under an instrument's description: every parameter in its canonical form, defaults filled in.

Two requests that become the same here are the same question to the dispatcher. Without a description nothing is read
into the words: then two requests are the same where their words are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from oda_proxy.query import canonical
from oda_proxy.query.query import NUL
from oda_proxy.query.schema import INPUT_LIST, Kind, Parameter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oda_proxy.query.query import Query
    from oda_proxy.query.schema import Schema

Value = tuple[str, ...]
"""What kind of value it is, then its text: `("number", "83.63", "deg")`, `("list", "a", "b")`, `("null",)`."""

NULL: Final[Value] = ("null",)

_HINTS: Final = frozenset({"use_scws"})
"""What the web form says of itself: dispatchers check it against the rest, and drop it."""


@dataclass(frozen=True, slots=True)
class NormalisedQuery:
    """What is asked, in canonical form."""

    instrument: str
    product_type: str
    query_type: str
    api: bool
    parameters: Mapping[str, Value]
    """By name; sorted."""
    files: tuple[tuple[str, str], ...]
    defaulted: frozenset[str]
    """Names of parameters that the request left out, filled in with their defaults."""


def normalise(query: Query, schema: Schema | None) -> NormalisedQuery:
    """Read a query under a description; without one, or for a product it does not know, as its words are."""
    described = schema.products.get(query.product_type) if schema else None
    given = dict(query.parameters)
    values: dict[str, Value] = {}
    defaulted: frozenset[str] = frozenset()
    if schema is None or described is None:
        values = {name: ("words", *words) for name, words in given.items()}
    else:
        reading = _Reading(given, described, schema.reads_json)
        values = reading.values()
        defaulted = frozenset(
            name for name, parameter in described.items() if parameter.filled_in and name not in given
        ) & frozenset(values)
    return NormalisedQuery(
        query.instrument,
        query.product_type,
        query.query_type,
        query.api,
        dict(sorted(values.items())),
        query.files,
        defaulted,
    )


def read_one(parameter: Parameter, words: Sequence[str], written_in: str, *, reads_json: bool) -> Value:
    """Give the canonical form of the values of one parameter; `written_in` is its unit or time format.

    Of several values the first counts, as for the dispatcher, except for the list of science windows.
    """
    text = words[0]
    if text == NUL or (text == "" and parameter.kind is Kind.NUMBER):
        return NULL
    form: str | tuple[str, ...] | None
    match parameter.kind:
        case Kind.NUMBER | Kind.ANGLE:
            form = _quantity(parameter, text, written_in)
        case Kind.TIME:
            form = canonical.time(text, written_in)
        case Kind.TEXT:
            form = text.strip()
        case Kind.BOOLEAN:
            form = canonical.boolean(text)
        case Kind.LIST:
            form = _list(parameter.name, words, reads_json)
        case Kind.STRUCTURE:
            form = canonical.json_form(text)
        case Kind.WORDS:
            form = canonical.json_form(text) if reads_json and len(words) == 1 else None
    if form is None:
        return ("words", *words)
    tag = "JSON" if parameter.kind is Kind.WORDS else _TAGS[parameter.kind]
    return (tag, form) if isinstance(form, str) else (tag, *form)


_TAGS: Final = {
    Kind.NUMBER: "number",
    Kind.ANGLE: "number",
    Kind.TEXT: "text",
    Kind.TIME: "time",
    Kind.LIST: "list",
    Kind.BOOLEAN: "boolean",
    Kind.STRUCTURE: "JSON",
}


def _quantity(parameter: Parameter, text: str, unit: str) -> tuple[str, ...] | None:
    """Read a number and its unit: that of the parameter, or the one it was given in, where it cannot be converted.

    The unit belongs to the value: in another release of the dispatcher the same number may be counted in another one.
    """
    value = canonical.angle(text, parameter.unit) if parameter.kind is Kind.ANGLE else canonical.number(text)
    if value is None:
        return None
    converted = canonical.in_unit(value, unit, parameter.unit)
    number, counted_in = (value, unit) if converted is None else (converted, parameter.unit)
    return (number, counted_in) if counted_in else (number,)


def _list(name: str, words: Sequence[str], reads_json: bool) -> tuple[str, ...] | None:
    """Read a list of names."""
    if name == INPUT_LIST:
        return canonical.names(words)
    if reads_json and (names := canonical.json_names(words[0])) is not None:
        return names
    return canonical.names(words[:1])


_UNDESCRIBED: Final = {INPUT_LIST: Parameter(INPUT_LIST, Kind.LIST, filled_in=False)}


@dataclass(frozen=True, slots=True)
class _Reading:
    """One request being read under the description of its product."""

    given: Mapping[str, tuple[str, ...]]
    described: Mapping[str, Parameter]
    reads_json: bool

    def values(self) -> dict[str, Value]:
        """Read everything that was given, and fill in the rest."""
        read = {name: self._given(name, words) for name, words in self.given.items() if name not in _HINTS}
        for name in self._units_and_formats(read):
            read.pop(name, None)
        for name, parameter in self.described.items():
            if parameter.filled_in and name not in self.given:
                read[name] = self._default(parameter)
        return read

    def _given(self, name: str, words: tuple[str, ...]) -> Value:
        parameter = self.described.get(name) or _UNDESCRIBED.get(name) or Parameter(name, Kind.WORDS)
        return read_one(parameter, words, self._written_in(parameter), reads_json=self.reads_json)

    def _written_in(self, parameter: Parameter) -> str:
        """Give the unit or format of a value: the one the request names, or the usual one."""
        usual = "isot" if parameter.kind is Kind.TIME else parameter.unit
        return self.given.get(parameter.written_by, (usual,))[0]

    def _units_and_formats(self, read: Mapping[str, Value]) -> set[str]:
        """Name the arguments that have done their work: what they say is in the values."""
        wanting: dict[str, bool] = {}
        for name, parameter in self.described.items():
            if name in read and parameter.written_by:
                wanting[parameter.written_by] = wanting.get(parameter.written_by, False) or read[name][0] == "words"
        return {name for name, words_left in wanting.items() if not words_left}

    def _default(self, parameter: Parameter) -> Value:
        default = parameter.default
        if default is None:
            return NULL
        if isinstance(default, tuple):
            return ("list", *default)
        usual = "isot" if parameter.kind is Kind.TIME else parameter.unit
        value = read_one(parameter, (default,), usual, reads_json=self.reads_json)
        return ("default", *value) if parameter.default_apart else value
