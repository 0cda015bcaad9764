"""Whether an answer is to the question: what the dispatcher says it used, against what was asked.

The dispatcher repeats the parameters of an analysis in its answer, in its own form. Its ids collide, so that the answer
to one question can come back for another; its defaults change; both can be seen here and nowhere else.
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
"""How far two floats may be apart that come from one number, relative to it."""

_FAMILIES: Final = (
    {"eV": 1.0, "keV": 1e3, "MeV": 1e6, "GeV": 1e9, "TeV": 1e12},
    {"deg": 1.0, "arcmin": 1 / 60, "arcsec": 1 / 3600, "rad": 180 / math.pi, "hourangle": 15.0},
)
"""Units that the dispatcher converts, and repeats a value in without always saying which."""

_RELATIVE_CONVERTED: Final = 1e-9


def contradictions(query: Query, schema: Schema | None, echo: Mapping[str, Any]) -> list[str]:
    """Name the parameters of a query that an echo contradicts: it has them, with another value.

    An echo that lacks a name contradicts nothing: dispatchers drop arguments they do not know. Nothing is said of a
    value that cannot be compared without a description.
    """
    return [name for name, agrees in _compared(query, schema, echo).items() if not agrees]


def confirms(query: Query, schema: Schema | None, echo: Mapping[str, Any]) -> bool:
    """Tell whether an echo shows every parameter that a query gives, and contradicts none, be it left out."""
    resolved = normalise(query, schema)
    given = resolved.parameters.keys() - resolved.defaulted
    return bool(echo) and given <= echo.keys() and not contradictions(query, schema, echo)


def _compared(query: Query, schema: Schema | None, echo: Mapping[str, Any]) -> dict[str, bool]:
    """Say of each name of a question whether an echo agrees, as far as it can be told."""
    resolved = normalise(query, schema)
    described = schema.products.get(query.product_type, {}) if schema else {}
    heads = {"instrument": query.instrument, "product_type": query.product_type, "query_type": query.query_type}
    agrees = {name: echo.get(name, word) == word for name, word in heads.items()}
    for name, value in resolved.parameters.items():
        if name not in echo or _is_rewritten(name, resolved.parameters):
            agrees[name] = True
        elif (parameter := described.get(name)) and value[0] != "words":
            agrees[name] = _agrees(parameter, value, echo, reads_json=bool(schema and schema.reads_json))
        else:
            agrees[name] = _words_agree(value[1:], echo[name], is_time_free=TIME_FORMAT not in resolved.parameters)
    return agrees


_COMPANIONS: Final = ("_units", "_format")


def _is_rewritten(name: str, given: Mapping[str, Value]) -> bool:
    """Tell whether an argument says a unit or format that nothing is known of: the dispatcher repeats its own.

    So it does with the value to which the unit or format belongs.
    """
    return name == TIME_FORMAT or name.endswith(_COMPANIONS) or any(f"{name}{end}" in given for end in _COMPANIONS)


def _agrees(parameter: Parameter, value: Value, echo: Mapping[str, Any], *, reads_json: bool) -> bool:
    """Compare a value with its echo under the rules of its kind."""
    repeated = echo[parameter.name]
    if value == NULL or repeated is None:
        return value == NULL and repeated in (None, "", [])
    usual = "isot" if parameter.kind is Kind.TIME else parameter.unit
    written_in = str(echo.get(parameter.written_by, usual))
    if parameter.kind in {Kind.NUMBER, Kind.ANGLE}:
        return _is_quantity(value, parameter.unit, repeated, written_in)
    if isinstance(repeated, list) and value[0] == "list":
        return list(value[1:]) == repeated
    if isinstance(repeated, bool) and value[0] == "boolean":
        return value[1] == _as_sent(repeated)
    return read_one(parameter, (_as_sent(repeated),), written_in, reads_json=reads_json) == value


def _is_quantity(value: Value, unit: str, repeated: Any, written_in: str) -> bool:
    """Compare a number with its echo, which may be in another unit of its family, said or not."""
    number, *units = value[value.index("number") + 1 :]
    given_in = units[0] if units else unit
    repeated_number = canonical.angle(_as_sent(repeated), written_in or "deg")
    if repeated_number is None:
        return False
    ours, theirs = float(number), float(repeated_number)
    if given_in == written_in and _is_close(ours, theirs, _RELATIVE):
        return True
    family = next((family for family in _FAMILIES if given_in in family), {given_in: 1.0})
    return any(_is_close(ours * family[given_in], theirs * factor, _RELATIVE_CONVERTED) for factor in family.values())


def _is_close(ours: float, theirs: float, relative: float) -> bool:
    return math.isclose(ours, theirs, rel_tol=relative) or (math.isnan(ours) and math.isnan(theirs))


_ISO_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def _words_agree(words: tuple[str, ...], repeated: Any, *, is_time_free: bool) -> bool:
    """Compare words with their echo where nothing is known of them; what cannot be compared agrees."""
    first = words[0] if words else ""
    if first in {"", NUL} or isinstance(repeated, bool) or repeated is None:
        return True
    if isinstance(repeated, int | float):
        number = canonical.number(first)
        return number is None or _is_close(float(number), float(repeated), _RELATIVE_CONVERTED)
    if isinstance(repeated, str):
        if repeated.strip() in {word.strip() for word in words} or _same_json(first, repeated):
            return True
        if not _ISO_DAY.match(repeated):
            return False
        # A time, perhaps: it is repeated as ISO whatever its format was.
        ours, theirs = canonical.time(first, "isot"), canonical.time(repeated, "isot")
        return not is_time_free or ours is None or ours == theirs
    return repeated in (list(words), first.split(",")) or _same_json(first, _as_sent(repeated))


def _same_json(one: str, other: str) -> bool:
    form = canonical.json_form(one)
    return form is not None and form == canonical.json_form(other)


def _as_sent(repeated: Any) -> str:
    """Write a value of an echo as a request would."""
    return repeated if isinstance(repeated, str) else json.dumps(repeated)


_JOB_ID: Final = re.compile(rb'"job_id"\s*:\s*"([^"\\]{1,100})"')


def read_job_id(body: bytes) -> str:
    """Find the id under which an answer says its job runs, or nothing; products stand before it and are not read."""
    found = _JOB_ID.search(body, max(body.rfind(b'"job_monitor"'), 0))
    return found[1].decode("utf-8", "replace") if found else ""
