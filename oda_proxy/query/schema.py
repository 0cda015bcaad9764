"""Parse the description of an instrument: the type, unit and default of its parameters.

A dispatcher describes its instruments at `api/meta-data`, in one of two encodings. Up to November 2024 each part is a
string that holds JSON, and its items have a name, a unit and a default, from which the type is inferred. Since then
parts are plain JSON, and items name their type. A parameter whose type is not certain is `Kind.VERBATIM`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.errors import OdaProxyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LARGEST: Final = 4 * 1024 * 1024
"""Largest description that is parsed, in bytes; that of the largest known instrument has some thousands."""

TIME_FORMAT: Final = "T_format"
"""Argument with the format of T1 and T2."""

INPUT_LIST: Final = "scw_list"
"""The only list whose repeated values dispatchers read, whether or not an instrument describes it."""


class SchemaError(OdaProxyError):
    """A description cannot be parsed."""

    detail = "no-description"


class Kind(Enum):
    """How the values of a parameter are compared."""

    VERBATIM = "as sent"
    NUMBER = "number"
    ANGLE = "angle"
    TEXT = "text"
    TIME = "time"
    LIST = "list"
    BOOLEAN = "boolean"
    STRUCTURE = "JSON"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a product."""

    name: str
    kind: Kind
    unit: str = ""
    default: str | tuple[str, ...] | None = None
    """As a request would send it; JSON text for structures; None for null."""
    filled_in: bool = True
    """Whether the dispatcher fills it in where a request does not have it."""
    written_by: str = ""
    """The argument, if any, that has the unit or format of the value."""
    is_optional: bool = False
    """Whether the dispatcher reads a NUL character as null; for other parameters it refuses it, or keeps it as text."""
    default_apart: bool = False
    """Whether the default may differ from the same value when sent: the dispatcher converts only what was sent."""


@dataclass(frozen=True, slots=True, eq=False)
class Schema:
    """The description of one instrument."""

    instrument: str
    products: Mapping[str, Mapping[str, Parameter]] = field(repr=False)
    """For each product its parameters by name, including those of the source and the instrument."""
    reads_json: bool
    """Whether the dispatcher reads JSON lists and objects in any argument, as current ones do."""


def read_schema(meta_data: bytes | str) -> Schema:
    """Parse the answer of `api/meta-data` for one instrument, requested without `product_type`. Raises SchemaError."""
    if len(meta_data) > LARGEST:
        raise SchemaError(f"the description has more than {LARGEST} bytes")
    try:
        [[head, dictionary, *parts]] = _loads(meta_data)
        instrument, products = str(head["instrumet"]), dictionary["prod_dict"]  # so spelled in every generation
        reads_json = not any(isinstance(part, str) for part in parts)
        queries = dict(_query(_loads(part) if isinstance(part, str) else part) for part in parts)
        named = {product: query for product, query in products.items() if query in queries}
        common = [items for name, items in queries.items() if name not in products.values()]
        described = {product: _parameters(common, queries[query], reads_json) for product, query in named.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SchemaError(f"the description has an unknown form: {error!r:.200}") from error
    return Schema(instrument, described, reads_json)


_Item = dict[str, Any]


def _loads(text: bytes | str) -> Any:
    return json.loads(text, parse_float=Decimal)  # a default keeps all its digits


def _query(part: Any) -> tuple[str, list[_Item]]:
    """Return the name of a part and its parameters."""
    named, *items = part
    return named["query_name"], [item for item in items if isinstance(item.get("name"), str)]


def _parameters(common: list[list[_Item]], own: list[_Item], reads_json: bool) -> dict[str, Parameter]:
    """Parse the parameters of one product; its own definition of a name overrides a common one."""
    found: dict[str, Parameter] = {}
    for items in (*common, own):
        for item, companion in _with_companions(items):
            if item["name"] not in _NOT_PARAMETERS:
                found[item["name"]] = _parameter(item, companion, reads_json, is_own=items is own)
    return found


_NOT_PARAMETERS: Final = frozenset({"token", "user_catalog"})
"""The client's token, and what the dispatcher itself makes of an uploaded file."""


def _with_companions(items: list[_Item]) -> Iterator[tuple[_Item, _Item | None]]:
    """Pair each parameter with the argument for its unit or format, which follows it without a type of its own.

    Descriptions in the older encoding do not list these arguments.
    """
    rest = list(items)
    while rest:
        item = rest.pop(0)
        is_companion = rest and _is_companion(rest[0], item)
        yield item, rest.pop(0) if is_companion else None


def _is_companion(item: _Item, of: _Item) -> bool:
    name: str = item["name"]
    if "owl_uri" in item or "restrictions" in item or "owl_uri" not in of:
        return False
    return name == TIME_FORMAT or name.startswith((f"{of['name']}_unit", f"{of['name']}_format"))


def _parameter(item: _Item, companion: _Item | None, reads_json: bool, *, is_own: bool) -> Parameter:
    """Parse one parameter."""
    name, default, unit = item["name"], item.get("value"), item.get("units") or ""
    kind = _kind(name, default, unit, item.get("owl_uri") or [])
    written_by = companion["name"] if companion else TIME_FORMAT if kind is Kind.TIME else ""
    # A sent value is converted from `unit` to a unit that the older encoding does not name: keV for energies, degrees
    # for angles of a source or an instrument, any for others.
    if companion:
        apart = kind in {Kind.NUMBER, Kind.ANGLE} and companion.get("value") != unit
    else:
        apart = not reads_json and kind is Kind.ANGLE and is_own
    return Parameter(
        name=name,
        kind=kind,
        unit=unit if isinstance(unit, str) else "",
        default=_default(kind, default),
        filled_in=name != INPUT_LIST,
        written_by=written_by,
        is_optional=name not in _READ_AS_TEXT and _is_optional(item),
        default_apart=apart,
    )


_READ_AS_TEXT: Final = frozenset({"selected_catalog", "catalog_selected_objects"})
"""Parameters that the dispatcher parses before it looks for NUL."""


def _is_optional(item: _Item) -> bool:
    restrictions = item.get("restrictions")
    return isinstance(restrictions, dict) and restrictions.get("is_optional") is True


_KINDS_BY_TYPE: Final = {
    "Angle": Kind.ANGLE,
    "Boolean": Kind.BOOLEAN,
    "DetectionThreshold": Kind.NUMBER,
    "Energy": Kind.NUMBER,
    "EndTime": Kind.TIME,
    "Float": Kind.NUMBER,
    "InputProdList": Kind.LIST,
    "Integer": Kind.NUMBER,
    "PointOfInterestDEC": Kind.ANGLE,
    "PointOfInterestRA": Kind.ANGLE,
    "StartTime": Kind.TIME,
    "String": Kind.TEXT,
    "StructuredParameter": Kind.STRUCTURE,
    "TimeDeltaIsDeprecated": Kind.NUMBER,
    "TimeInstant": Kind.TIME,
    "bool": Kind.BOOLEAN,
    "float": Kind.NUMBER,
    "int": Kind.NUMBER,
    "str": Kind.TEXT,
}
"""Kinds by the last part of a type's URI; the first known type of a parameter counts."""

_KINDS_BY_NAME: Final = {
    "T1": Kind.TIME,
    "T2": Kind.TIME,
    INPUT_LIST: Kind.LIST,
    "selected_catalog": Kind.STRUCTURE,
}
"""Parameters of every instrument, whose type not every dispatcher names."""

_ANGLE_UNITS: Final = frozenset({"deg", "arcmin", "arcsec", "rad", "hourangle"})
_NUMBER_UNITS: Final = frozenset({"eV", "keV", "MeV", "GeV", "TeV", "sec", "s", "sigma", *_ANGLE_UNITS})


def _kind(name: str, default: Any, unit: Any, types: Any) -> Kind:
    """Return the kind of a parameter, `Kind.VERBATIM` where it is not certain."""
    if name in _KINDS_BY_NAME and (default is None or isinstance(default, str | list)):
        return _KINDS_BY_NAME[name]
    is_number = isinstance(default, Decimal | int) and not isinstance(default, bool)
    for address in types if isinstance(types, list) else [types]:
        kind = _KINDS_BY_TYPE.get(str(address).replace("#", "/").rpartition("/")[2])
        if kind is not None:
            contradicted = kind in {Kind.NUMBER, Kind.ANGLE} and not is_number and default is not None
            return Kind.VERBATIM if contradicted else kind
    if is_number or (default is None and unit in _NUMBER_UNITS):
        return Kind.ANGLE if unit in _ANGLE_UNITS else Kind.NUMBER
    if isinstance(default, list) and all(isinstance(one, str) for one in default):
        return Kind.LIST
    if default is None or isinstance(default, str):
        return Kind.TIME if unit == "isot" else Kind.TEXT if unit == "str" else Kind.VERBATIM
    return Kind.VERBATIM


def _default(kind: Kind, value: Any) -> str | tuple[str, ...] | None:
    """Return a default as a request would send it."""
    if value is None or isinstance(value, str):
        return value
    if kind is Kind.LIST and isinstance(value, list):
        return tuple(map(str, value))
    if isinstance(value, Decimal | int) and not isinstance(value, bool):
        return str(value)
    return json.dumps(value, default=float)
