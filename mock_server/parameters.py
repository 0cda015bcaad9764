"""Reads the arguments of a request, checks them, and normalises them as dispatcher 1.3.6 does in its echo."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mock_server.descriptions import is_filled_in
from mock_server.parameter_values import BadParameterError, normal_value
from oda_proxy.errors import BadQueryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mock_server.descriptions import Description

# Arguments of a request that are not parameters of its query: client, session, and state of the job.
CONTROL_ARGUMENTS: Final = frozenset(
    {"query_status", "query_type", "session_id", "api", "oda_api_version", "off_line", "instrument", "product_type"}
    | {"job_id", "token", "run_asynch", "allow_unknown_args", "catalog_selected_objects", "async_dispatcher"}
)
COMMENT_ON_ARGUMENTS: Final = "Please note that argument"
_IGNORED: Final = frozenset({"client-name", "return_progress", "use_scws"})
_ALWAYS_TEXT: Final = frozenset({"selected_catalog", "catalog_selected_objects"})
_REPEATED: Final = "scw_list"
_NUL: Final = "\0"
_MAX_NESTING: Final = 100
"""Levels of a list or an object; what is nested deeper stays text."""
# Characters that astropy's Angle of 2019 accepted at the start of an angle.
_ANGLE: Final = frozenset("0123456789+-.")


class BadParameter2019Error(BadQueryError):
    """A value that is invalid for the dispatcher of 2019; the message is Python 2's repr of an exception."""


@dataclass(frozen=True)
class Parameters:
    """The parameters of a query.

    Attributes
    ----------
    echo
        All arguments that were used, normalised, and defaults, in the order of the dispatcher's echo.
    decisive
        Those that the product depends on: the parameters of the product, its instrument and its source, normalised.
    unused
        Names of the arguments that no product of the instrument has, in the order of the request.
    """

    echo: Mapping[str, Any]
    decisive: Mapping[str, Any]
    unused: tuple[str, ...]

    @property
    def comment(self) -> str:
        """The text of `exit_status.comment` about unused arguments."""
        match self.unused:
            case ():
                return ""
            case (name,):
                return f"{COMMENT_ON_ARGUMENTS} {name} is not used"
            case names:
                return f"{COMMENT_ON_ARGUMENTS}s {', '.join(names)} are not used"


def read_arguments(query: Iterable[tuple[str, str]], form: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Merge a query string and a form into values.

    The query string overrides the form, and the first of several equal names wins, except for `scw_list`. A NUL is
    null; the text of a JSON list or object is parsed; numbers stay text.
    """
    arguments: dict[str, Any] = {}
    for pairs in (list(query), list(form)):
        lists = [value for name, value in pairs if name == _REPEATED]
        for name, value in pairs:
            if name not in arguments:
                arguments[name] = lists if name == _REPEATED and len(lists) > 1 else _read_value(name, value)
    return arguments


def _read_value(name: str, text: str) -> Any:
    if text == _NUL:
        return None
    if name in _ALWAYS_TEXT or name == _REPEATED or not text.lstrip().startswith(("[", "{")):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if _is_nested_deeper(value, _MAX_NESTING) else value


def _is_nested_deeper(value: Any, limit: int) -> bool:
    """Return whether lists and objects are nested in more than `limit` levels; no recursion."""
    level = [value]
    for _ in range(limit):
        level = [
            member
            for one in level
            if isinstance(one, list | dict)
            for member in (one.values() if isinstance(one, dict) else one)
        ]
    return any(isinstance(one, list | dict) for one in level)


def check(arguments: Mapping[str, Any], description: Description, product: str) -> Parameters:
    """Check and normalise the arguments of a query as dispatcher 1.3.6 does.

    Parameters
    ----------
    arguments
        As returned by `read_arguments`.
    description
        The description of the instrument.
    product
        One of its products.

    Raises
    ------
    BadParameterError
        A value is invalid.
    UnknownProductError
        The instrument has no such product.
    """
    described = {parameter.name: parameter for parameter in description.parameters(product)}
    known_names = description.names() | CONTROL_ARGUMENTS | _IGNORED
    unused = tuple(name for name in arguments if name not in known_names)
    if arguments.get("allow_unknown_args") == "True":
        unused = ()
    time_format = time_format_of(arguments)
    units = {
        one.units_argument: one.echo_units or one.units for one in described.values() if one.units_argument is not None
    }
    echo: dict[str, Any] = {}
    for name, value in arguments.items():
        if name in _IGNORED or name in unused:
            continue
        parameter = described.get(name)
        if parameter is None or name == "token":
            echo[name] = value
        elif name in units:
            echo[name] = units[name]  # of the echoed value
        else:
            stated = None if parameter.units_argument is None else arguments.get(parameter.units_argument)
            echo[name] = normal_value(parameter, value, time_format, None if stated in (None, "") else str(stated))
    for name, parameter in described.items():
        if name not in echo and is_filled_in(parameter):
            echo[name] = parameter.value
    decisive = {name: value for name, value in echo.items() if _is_decisive(name, described)}
    return Parameters(echo=echo, decisive=decisive, unused=unused)


def check_2019(arguments: Mapping[str, Any], description: Description, product: str) -> Parameters:
    """Check the arguments of a query as the dispatcher of May 2019 did, which echoed all of them unchanged.

    Raises
    ------
    BadParameter2019Error
        A value is invalid.
    UnknownProductError
        The instrument has no such product.
    """
    try:
        decisive = check(arguments, description, product).decisive
    except BadParameterError as error:
        raise BadParameter2019Error(_repr_2019(error.kind, str(arguments[error.name]))) from None
    return Parameters(echo=dict(arguments), decisive=decisive, unused=())


def time_format_of(arguments: Mapping[str, Any]) -> str:
    """Return the format of a query's times."""
    value = arguments.get("T_format")
    return "isot" if value is None else str(value)


def _is_decisive(name: str, described: Mapping[str, Any]) -> bool:
    return name == "catalog_selected_objects" or (name in described and name not in CONTROL_ARGUMENTS)


def _repr_2019(kind: str, value: str) -> str:
    """Return the exception for an invalid value as Python 2 and astropy 2 wrote it."""
    if kind == "angle":
        column = next((place for place, character in enumerate(value) if character not in _ANGLE), 0)
        return f'ValueError(u"Invalid character at col {column} in angle u{value!r}",)'
    if kind == "time":
        return "ValueError(u'Input values did not match the format class isot',)"
    return f"ValueError('could not convert string to float: {value}',)"
