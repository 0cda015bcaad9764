"""Reads and checks the value of one parameter, with the messages of the dispatcher."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from mock_server.catalogs import CatalogError, check_catalog
from mock_server.descriptions import is_input_list, is_optional
from mock_server.schema_check import TIME_LIMIT, check_with_schema
from mock_server.times import BadTimeError, isot
from oda_proxy.errors import BadQueryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oda_proxy.fixture.model import ParameterDescription

_KINDS_BY_NAME: Final = {"T1": "time", "T2": "time", "selected_catalog": "catalog"}
_KINDS_BY_TYPE: Final = {bool: "boolean", int: "integer", float: "float", list: "list", dict: "structured"}
_TRUE: Final = frozenset({"True", "true", "yes", "1"})
_FALSE: Final = frozenset({"False", "false", "no", "0"})
_NUMBERS: Final = frozenset({"float", "angle", "energy", "time_interval", "integer"})
# Factors to the first unit of each dimension, by its name.
_UNITS: Final[Mapping[str, Mapping[str, float]]] = {
    "energy/torque/work": {"keV": 1.0, "eV": 1e-3, "MeV": 1e3, "GeV": 1e6, "TeV": 1e9},
    "frequency": {"Hz": 1.0, "MHz": 1e6, "GHz": 1e9},
    "time": {"s": 1.0, "sec": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0, "year": 31557600.0},
    "angle": {"deg": 1.0, "arcmin": 1 / 60, "arcsec": 1 / 3600, "hourangle": 15.0, "rad": 57.29577951308232},
}
_ALLOWED_UNITS: Final = {
    "energy": ["keV", "eV", "MeV", "GeV", "TeV", "Hz", "MHz", "GHz"],
    "time_interval": ["s", "minute", "hour", "day", "year"],
}


class BadParameterError(BadQueryError):
    """A value that is invalid for its parameter; the message is the dispatcher's."""

    def __init__(self, parameter: ParameterDescription, message: str) -> None:
        super().__init__(message)
        self.name = parameter.name
        self.kind = kind_of(parameter)


class BadUnitsError(BadParameterError):
    """Units that do not fit their parameter; the dispatcher finds them while it sets up a query."""


def kind_of(parameter: ParameterDescription) -> str:
    """Return a parameter's kind, derived from name, units and default if the description does not state it."""
    if parameter.kind is not None:
        return parameter.kind
    if parameter.name in _KINDS_BY_NAME:
        return _KINDS_BY_NAME[parameter.name]
    if is_input_list(parameter):
        return "list"
    return _KINDS_BY_TYPE.get(type(parameter.value), "text")


def normal_value(  # noqa: PLR0911 - one for each kind
    parameter: ParameterDescription, value: Any, time_format: str, units: str | None = None
) -> Any:
    """Return a value as the dispatcher echoes it; raises BadParameterError.

    Parameters
    ----------
    parameter
        The description of the parameter.
    value
        As `read_arguments` returns it.
    time_format
        Format of times, a name of astropy.
    units
        Units of the value, if the request states them; the result is in those of the description, or in its
        `echo_units`.
    """
    kind = kind_of(parameter)
    if value is None and kind not in ("catalog", "boolean") and parameter.name != "T_format":
        if not is_optional(parameter):
            raise BadParameterError(parameter, f"Non-optional parameter {parameter.name} is set to None")
        return None
    match "time format" if parameter.name == "T_format" else kind:
        case "time format":
            return "isot"
        case "catalog":
            return _read_catalog(parameter, value)
        case "boolean":
            return _read_boolean(parameter, value)
        case "structured":
            return _read_structure(parameter, value)
        case "time":
            return _read_time(parameter, value, time_format)
    return _read_plain(parameter, kind, value, units)


def _read_time(parameter: ParameterDescription, value: Any, time_format: str) -> str:
    try:
        return isot(value, time_format)
    except BadTimeError:
        raise BadParameterError(
            parameter,
            f"Parameter {parameter.name} wrong value {value}: can't be parsed as Time of {time_format} format",
        ) from None


def _read_plain(parameter: ParameterDescription, kind: str, value: Any, units: str | None) -> Any:
    try:
        normal = _READERS[kind](value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadParameterError(parameter, f"Parameter {parameter.name} wrong value {value}. {error}") from None
    is_number = kind in _NUMBERS and normal is not None
    if is_number and units is not None:
        normal *= _factor(parameter, units)
    _check_restrictions(parameter, normal)
    if is_number and parameter.echo_units is not None and parameter.units is not None:
        normal *= _factor(replace(parameter, units=parameter.echo_units), parameter.units)
    return normal


def _read_float(value: Any) -> float | None:
    return None if value == "" else float(value)


def _read_list(value: Any) -> list[Any]:
    if isinstance(value, str):
        return value.split(",") if value else []
    return list(value)


def _read_text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else json.dumps(value)


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "float": _read_float,
    "angle": _read_float,
    "energy": _read_float,
    "time_interval": _read_float,
    "integer": int,
    "list": _read_list,
    "text": _read_text,
    "file": _read_text,
}


def _read_boolean(parameter: ParameterDescription, value: Any) -> bool | None:
    if value is None and is_optional(parameter):
        return None
    if str(value) not in _TRUE | _FALSE:
        raise BadParameterError(parameter, f"Wrong value for boolean parameter {parameter.name}")
    return str(value) in _TRUE


def _read_catalog(parameter: ParameterDescription, value: Any) -> Any:
    """Check that a text is a catalogue, and return it unchanged."""
    try:
        check_catalog(value)
    except CatalogError as error:
        raise BadParameterError(parameter, str(error)) from None
    return value


def _read_structure(parameter: ParameterDescription, value: Any) -> str:
    """Check a list or an object against the schema of its parameter, and return it as JSON with sorted names."""
    schema = (parameter.restrictions or {}).get("schema")
    if schema is None:
        schema = {"oneOf": [{"type": "object"}, {"type": "array"}]}
    match check_with_schema(value, schema):
        case "bad schema":
            raise BadParameterError(parameter, f"Wrong schema for parameter {parameter.name}: {schema}")
        case "too long":
            raise BadParameterError(
                parameter,
                f"Parameter {parameter.name}: the check against its schema takes more than {TIME_LIMIT:.0f} s: "
                "simplify the patterns or references of the schema",
            )
        case "invalid":
            raise BadParameterError(parameter, f"Wrong value of structured parameter {parameter.name}")
    return json.dumps(value, sort_keys=True)


def _factor(parameter: ParameterDescription, units: str) -> float:
    """Return the factor that converts from some units to those of a parameter."""
    allowed = _ALLOWED_UNITS.get(kind_of(parameter))
    if allowed is not None and units not in allowed:
        raise BadUnitsError(parameter, f"wrong units for par: {parameter.name}, found: {units}, allowed: {allowed}")
    if units == parameter.units:
        return 1.0
    own = parameter.units or ""
    for factors in _UNITS.values():
        if units in factors and own in factors:
            return factors[units] / factors[own]
    texts = " and ".join(f"'{one}' ({_dimension(one)})" for one in (units, parameter.echo_units or own))
    raise BadUnitsError(parameter, f"{texts} are not convertible")


def _dimension(units: str) -> str:
    """Return the name of the dimension of units, as astropy writes it."""
    return next((dimension for dimension, factors in _UNITS.items() if units in factors), "unknown")


def _check_restrictions(parameter: ParameterDescription, value: Any) -> None:
    restrictions = parameter.restrictions or {}
    allowed, least, most = (restrictions.get(name) for name in ("allowed_values", "min_value", "max_value"))
    wrong = f"Parameter {parameter.name} wrong value {value}"
    try:
        is_allowed = allowed is None or value in allowed
        bounds = tuple(None if bound is None else float(bound) for bound in (least, most))
    except (TypeError, ValueError, OverflowError) as error:
        raise BadParameterError(
            parameter, f"Wrong restrictions of parameter {parameter.name} in its description: {error}"
        ) from None
    if not is_allowed:
        raise BadParameterError(parameter, f"{wrong}: not in allowed {allowed}")
    if not isinstance(value, (int, float)):
        return
    wrong = f"{wrong}{parameter.units or ''}"
    if bounds[0] is not None and value < bounds[0]:
        raise BadParameterError(parameter, f"{wrong}: should be greater or equal than {bounds[0]}")
    if bounds[1] is not None and value > bounds[1]:
        raise BadParameterError(parameter, f"{wrong}: should be lower or equal than {bounds[1]}")
