"""Normalise a query: every parameter in its canonical form, defaults filled in, by the instrument's description.

Two requests that are equal once normalised are the same query to the dispatcher. Without a description the values are
not interpreted: two requests are then equal where they send the same text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from oda_proxy.query import canonical
from oda_proxy.query.query import NUL
from oda_proxy.query.schema import INPUT_LIST, Kind, Parameter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from oda_proxy.query.query import Query
    from oda_proxy.query.schema import Schema

Value = tuple[str, ...]
"""A tag for the kind of value, then its text: `("number", "83.63", "deg")`, `("list", "a", "b")`, `("null",)`.

Tags are part of the key. The tag `words` marks values that are compared as they were sent.
"""

NULL: Final[Value] = ("null",)

IGNORED: Final = frozenset({"verbose"})
"""Arguments that change nothing in the products, whatever their value: dispatchers only log more."""

_HINT: Final = "use_scws"
"""How the web form says it sends science windows. Dispatchers refuse a value that contradicts the rest of the request,
and drop any other."""
_WINDOWS_FILE: Final = "user_scw_list_file"


@dataclass(frozen=True, slots=True)
class NormalisedQuery:
    """A query in canonical form."""

    instrument: str
    product_type: str
    query_type: str
    api: bool
    parameters: Mapping[str, Value]
    """By name, sorted."""
    files: tuple[tuple[str, str], ...]
    defaulted: frozenset[str]
    """Names of the parameters that the request does not have, filled in with their defaults."""


def normalise(query: Query, schema: Schema | None) -> NormalisedQuery:
    """Normalise a query; without a description of its product its values stay as they were sent."""
    described = schema.products.get(query.product_type) if schema else None
    sent = dict(query.parameters)
    values: dict[str, Value] = {}
    defaulted: frozenset[str] = frozenset()
    if schema is None or described is None:
        values = {name: ("words", *texts) for name, texts in sent.items() if name not in IGNORED}
    else:
        reading = _Reading(sent, {name for name, _ in query.files}, described, schema.reads_json)
        values = reading.values()
        defaulted = frozenset(
            name for name, parameter in described.items() if parameter.filled_in and name not in sent
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


def read_one(parameter: Parameter, sent: Sequence[str], written_in: str, *, reads_json: bool) -> Value:
    """Return the canonical form of one parameter; `written_in` is its unit or time format.

    As for the dispatcher, only the first of several values counts, except in the list of science windows.
    """
    text = sent[0]
    if text == NUL and not parameter.is_optional:
        return ("words", *sent)
    if text == NUL or (text == "" and parameter.kind is Kind.NUMBER):
        return NULL
    form = _form(parameter, sent, written_in, reads_json=reads_json)
    if form is None:
        return ("words", *sent)
    tag = "JSON" if parameter.kind is Kind.VERBATIM else _TAGS[parameter.kind]
    return (tag, form) if isinstance(form, str) else (tag, *form)


def _form(
    parameter: Parameter, sent: Sequence[str], written_in: str, *, reads_json: bool
) -> str | tuple[str, ...] | None:
    """Return the text or texts of the canonical form, or None where the value is not of its kind."""
    text = sent[0]
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
            form = _list(parameter.name, sent, reads_json)
        case Kind.STRUCTURE:
            form = canonical.json_form(text)
        case Kind.VERBATIM:
            form = canonical.json_form(text) if reads_json and len(sent) == 1 else None
    return form


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
    """Read a number and its unit: the unit of the parameter, or the one it was sent in if it cannot be converted.

    The unit is part of the value: another release of the dispatcher may read the same number in another unit.
    """
    value = canonical.angle(text, parameter.unit) if parameter.kind is Kind.ANGLE else canonical.number(text)
    if value is None:
        return None
    converted = canonical.in_unit(value, unit, parameter.unit)
    number, number_unit = (value, unit) if converted is None else (converted, parameter.unit)
    return (number, number_unit) if number_unit else (number,)


def _list(name: str, sent: Sequence[str], reads_json: bool) -> tuple[str, ...] | None:
    """Read a list of names."""
    if name == INPUT_LIST:
        return canonical.names(sent)
    if reads_json and (names := canonical.json_names(sent[0])) is not None:
        return names
    return canonical.names(sent[:1])


_UNDESCRIBED: Final = {INPUT_LIST: Parameter(INPUT_LIST, Kind.LIST, filled_in=False, is_optional=True)}
_CONVERTED: Final = frozenset({Kind.NUMBER, Kind.ANGLE, Kind.TIME})
"""Kinds whose canonical form includes the unit or format."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """One request being read with the description of its product."""

    sent: Mapping[str, tuple[str, ...]]
    uploaded: AbstractSet[str]
    """Names of the fields with files."""
    described: Mapping[str, Parameter]
    reads_json: bool

    def values(self) -> dict[str, Value]:
        """Read everything that was sent, and fill in the defaults."""
        read = {name: self._read(name, sent) for name, sent in self.sent.items() if name not in IGNORED | {_HINT}}
        if (hint := self.sent.get(_HINT, (None,)))[0] not in self._redundant_hints():
            read[_HINT] = NULL if hint[0] is None else ("words", *filter(None, hint))
        for name in self._units_and_formats(read):
            read.pop(name, None)
        for name, parameter in self.described.items():
            if parameter.filled_in and name not in self.sent:
                read[name] = self._default(parameter)
        return read

    def _read(self, name: str, sent: tuple[str, ...]) -> Value:
        parameter = self.described.get(name) or _UNDESCRIBED.get(name)
        parameter = parameter or Parameter(name, Kind.VERBATIM, is_optional=True)
        return read_one(parameter, sent, self._written_in(parameter), reads_json=self.reads_json)

    def _redundant_hints(self) -> AbstractSet[str | None]:
        """Return the values of `use_scws`, None for none, with which the dispatcher answers alike."""
        match INPUT_LIST in self.sent, _WINDOWS_FILE in self.uploaded:
            case True, False:
                return {None, "form_list"}
            case False, False:
                return {None, "no"}
            case False, True:
                return {"user_file"}
        return frozenset()

    def _written_in(self, parameter: Parameter) -> str:
        """Return the unit or format of a value: the one that the request names, or the usual one."""
        usual = "isot" if parameter.kind is Kind.TIME else parameter.unit
        return self.sent.get(parameter.written_by, (usual,))[0]

    def _units_and_formats(self, read: Mapping[str, Value]) -> set[str]:
        """Return the names of the units and formats that were applied to every value that they belong to."""
        needed: dict[str, bool] = {}
        for name, parameter in self.described.items():
            if name in read and parameter.written_by:
                is_applied = parameter.kind in _CONVERTED and read[name][0] not in {"words", "null"}
                is_applied &= self.sent.get(parameter.written_by) != ("",)
                needed[parameter.written_by] = needed.get(parameter.written_by, False) or not is_applied
        return {name for name, is_needed in needed.items() if not is_needed}

    def _default(self, parameter: Parameter) -> Value:
        default = parameter.default
        if default is None:
            return NULL
        if isinstance(default, tuple):
            return ("list", *default)
        usual = "isot" if parameter.kind is Kind.TIME else parameter.unit
        value = read_one(parameter, (default,), usual, reads_json=self.reads_json)
        return ("default", *value) if parameter.default_apart else value
