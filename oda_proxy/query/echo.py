"""Compare the parameters that a dispatcher echoes in its answer with those of the query.

The dispatcher repeats the parameters of an analysis in its answer, in its own form. Its job ids collide, so that the
answer to one query can come back for another, and its defaults change: only the echo shows either.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.query import canonical
from oda_proxy.query.normalised import NULL, normalise, read_one
from oda_proxy.query.query import NUL
from oda_proxy.query.schema import TIME_FORMAT, Kind, Parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.query.normalised import Value
    from oda_proxy.query.query import Query
    from oda_proxy.query.schema import Schema

_RELATIVE: Final = 1e-12
"""Relative difference up to which two floats count as one number."""

_FAMILIES: Final = (
    {"eV": 1.0, "keV": 1e3, "MeV": 1e6, "GeV": 1e9, "TeV": 1e12},
    {"deg": 1.0, "arcmin": 1 / 60, "arcsec": 1 / 3600, "rad": 180 / math.pi, "hourangle": 15.0},
)
"""Units between which the dispatcher converts; it does not always name the unit of an echoed value."""

_RELATIVE_CONVERTED: Final = 1e-9


def contradictions(query: Query, schema: Schema | None, echo: Mapping[str, Any]) -> list[str]:
    """Return the names of the parameters that an echo has with another value than the query.

    An echo that lacks a name does not contradict it: dispatchers drop unknown arguments. A value that cannot be
    compared without a description counts as equal.
    """
    return [name for name, agrees in _compared(query, schema, echo).items() if not agrees]


def confirms(query: Query, schema: Schema | None, echo: Mapping[str, Any]) -> bool:
    """Return whether an echo has every parameter that the query sends, and contradicts none, defaults included."""
    normalised = normalise(query, schema)
    sent = normalised.parameters.keys() - normalised.defaulted
    return bool(echo) and sent <= echo.keys() and not contradictions(query, schema, echo)


def _compared(query: Query, schema: Schema | None, echo: Mapping[str, Any]) -> dict[str, bool]:
    """Return for each name of a query whether the echo agrees with it, as far as the two can be compared."""
    normalised = normalise(query, schema)
    described = schema.products.get(query.product_type, {}) if schema else {}
    heads = {"instrument": query.instrument, "product_type": query.product_type, "query_type": query.query_type}
    agrees = {name: echo.get(name, value) == value for name, value in heads.items()}
    for name, value in normalised.parameters.items():
        if name not in echo or _is_rewritten(name, normalised.parameters):
            agrees[name] = True
        elif (parameter := described.get(name)) and value[0] != "words":
            agrees[name] = _agrees(parameter, value, echo, reads_json=bool(schema and schema.reads_json))
        else:
            agrees[name] = _texts_agree(value[1:], echo[name], is_time_free=TIME_FORMAT not in normalised.parameters)
    return agrees


_COMPANIONS: Final = ("_units", "_format")


def _is_rewritten(name: str, sent: Mapping[str, Value]) -> bool:
    """Return whether a parameter is an undescribed unit or format, or a value that has one.

    The dispatcher echoes these in its own unit or format.
    """
    return name == TIME_FORMAT or name.endswith(_COMPANIONS) or any(f"{name}{end}" in sent for end in _COMPANIONS)


def _agrees(parameter: Parameter, value: Value, echo: Mapping[str, Any], *, reads_json: bool) -> bool:
    """Compare a value with its echo by the rules of its kind."""
    repeated = echo[parameter.name]
    if value == NULL or repeated is None:  # null is also what a repaired answer has for NaN and infinities
        return (value == NULL and repeated in (None, "", [])) or (repeated is None and _is_not_finite(value))
    usual = "isot" if parameter.kind is Kind.TIME else parameter.unit
    written_in = str(echo.get(parameter.written_by, usual))
    if parameter.kind in {Kind.NUMBER, Kind.ANGLE}:
        return _is_quantity(value, parameter.unit, repeated, written_in)
    if value[0] == "JSON":
        return _same_json(value[1], _as_sent(repeated))
    if isinstance(repeated, list) and value[0] == "list":
        return list(value[1:]) == repeated
    if isinstance(repeated, bool) and value[0] == "boolean":
        return value[1] == _as_sent(repeated)
    return read_one(parameter, (_as_sent(repeated),), written_in, reads_json=reads_json) == value


def _is_not_finite(value: Value) -> bool:
    return "number" in value and not math.isfinite(float(value[value.index("number") + 1]))


def _is_quantity(value: Value, unit: str, repeated: Any, written_in: str) -> bool:
    """Compare a number with its echo, which may be in another unit of its family, named or not."""
    number, *units = value[value.index("number") + 1 :]
    sent_in = units[0] if units else unit
    repeated_number = canonical.angle(_as_sent(repeated), written_in or "deg")
    if repeated_number is None:
        return False
    ours, theirs = float(number), float(repeated_number)
    if sent_in == written_in and _is_close(ours, theirs, _RELATIVE):
        return True
    family = next((family for family in _FAMILIES if sent_in in family), {sent_in: 1.0})
    return any(_is_close(ours * family[sent_in], theirs * factor, _RELATIVE_CONVERTED) for factor in family.values())


def _is_close(ours: float, theirs: float, relative: float) -> bool:
    return math.isclose(ours, theirs, rel_tol=relative) or (math.isnan(ours) and math.isnan(theirs))


_ISO_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def _texts_agree(values: tuple[str, ...], repeated: Any, *, is_time_free: bool) -> bool:
    """Compare the values of an undescribed parameter with their echo; what cannot be compared agrees."""
    first = values[0] if values else ""
    if first in {"", NUL} or isinstance(repeated, bool) or repeated is None:
        return True
    if isinstance(repeated, int | float):
        number = canonical.number(first)
        return number is None or _is_close(float(number), float(repeated), _RELATIVE_CONVERTED)
    if isinstance(repeated, str):
        if repeated.strip() in {value.strip() for value in values} or _same_json(first, repeated):
            return True
        if not _ISO_DAY.match(repeated):
            return False
        # Possibly a time, which is echoed as ISO whatever its format was.
        ours, theirs = canonical.time(first, "isot"), canonical.time(repeated, "isot")
        return not is_time_free or ours is None or ours == theirs
    return repeated in (list(values), first.split(",")) or _same_json(first, _as_sent(repeated))


def _same_json(one: str, other: str) -> bool:
    form = canonical.json_form(one, with_constants=False)
    return form is not None and form == canonical.json_form(other, with_constants=False)


def _as_sent(repeated: Any) -> str:
    """Return a value of an echo as a request would send it."""
    return repeated if isinstance(repeated, str) else json.dumps(repeated)
