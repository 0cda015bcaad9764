"""The routes that return a changed token: a later expiry, or other options of e-mails.

The rules and texts are those of dispatcher 1.3.6, whose fields are checked by marshmallow. These tokens are no access
control: without a secret key, the mock signs with an empty one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from mock_server.parameters import CONTROL_ARGUMENTS
from mock_server.request_context import InternalServerError, RefusedError, constructor_failed
from mock_server.tokens import make_token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mock_server.request_context import RequestReader

LONGEST_REFRESH: Final = 7 * 24 * 3600
"""Maximum of `refresh_interval`, in s, and its default."""

_INSTRUMENT: Final = "mock"  # the name that the dispatcher uses in messages of routes without an instrument
_LAST_EXPIRY: Final = 2177449199  # Unix time that the dispatcher uses in place of one that is no date
_TRUE: Final = frozenset(["t", "T", "true", "True", "TRUE", "on", "On", "ON", "y", "Y", "yes", "Yes", "YES", "1"])
_FALSE: Final = frozenset(["f", "F", "false", "False", "FALSE", "off", "Off", "OFF", "n", "N", "no", "No", "NO", "0"])


class _FieldError(ValueError):
    """A value that is not valid for its field; the message is marshmallow's."""


@dataclass(frozen=True)
class TokenRoutes:
    """Answers requests for changed tokens."""

    reader: RequestReader

    def refresh(self, query: Mapping[str, str], arguments: Mapping[str, Any]) -> str:
        """Return the token of a request, valid for `refresh_interval` seconds longer.

        Raises
        ------
        ServiceForbiddenError
            There is no valid token with the role.
        RefusedError
            The request is incomplete, or the interval too long.
        InternalServerError
            The token has no expiry, or the interval is not an integer.
        """
        token = self.reader.service_token(query.get("token"), "refresh-tokens", purpose="to refresh your token")
        self._check_status(arguments)
        try:
            stated = arguments.get("refresh_interval")
            interval = LONGEST_REFRESH if stated is None else int(stated)
            claims = {} if token is None else token.claims
            expires = claims["exp"] + interval
        except (ValueError, TypeError, KeyError):
            raise InternalServerError("the token has no expiry, or refresh_interval is not an integer") from None
        if interval > LONGEST_REFRESH:
            raise RefusedError(
                "RequestNotAuthorized",
                "Request not authorized",
                status=403,
                debug_message="The refresh interval requested exceeds the maximum allowed, please provide a value "
                f"which is lower than {LONGEST_REFRESH} seconds",
            )
        return self._signed({**claims, "exp": expires if _is_date(expires) else _LAST_EXPIRY})

    def update_email_options(self, arguments: Mapping[str, Any]) -> str:
        """Return the token of a request with the options of the request.

        Raises
        ------
        RefusedError
            The token or an option is not valid, or the request is incomplete.
        InternalServerError
            There is no token.
        """
        text = None if arguments.get("token") is None else str(arguments["token"])
        token = self.reader.token(text, _INSTRUMENT if text in ("", "None") else "instrument-not-set")
        self._check_status(arguments)
        options = {
            name: value for name, value in arguments.items() if name not in CONTROL_ARGUMENTS and value is not None
        }
        values, errors = _read_options(options)
        if errors:
            raise RefusedError(
                "BadRequest",
                f"An error occurred while validating the following fields: {errors}. "
                "Please check it and re-try to issue the request",
            )
        if token is None:
            raise InternalServerError("there is no token")
        return self._signed({**token.claims, **values})

    def _check_status(self, arguments: Mapping[str, Any]) -> None:
        if "query_status" not in arguments:
            raise RefusedError("RequestNotUnderstood", constructor_failed(_INSTRUMENT, "'query_status'"))
        status = arguments["query_status"]
        if status != "new" and not arguments.get("job_id"):
            message = f'job_id must be present if query_status != "new" (it is "{status}")'
            raise RefusedError("RequestNotUnderstood", message)

    def _signed(self, claims: Mapping[str, Any]) -> str:
        return make_token(claims, self.reader.settings.secret_key or "")


def _boolean(value: Any) -> bool:
    if isinstance(value, str) and value in _TRUE | _FALSE:
        return value in _TRUE
    raise _FieldError("Not a valid boolean.")


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise _FieldError("Not a valid number.") from None
    if not math.isfinite(number):
        raise _FieldError("Special numeric values (nan or infinity) are not permitted.")
    return number


_OPTIONS: Final[Mapping[str, Callable[[Any], bool | float]]] = {
    **dict.fromkeys(("msfail", "msdone", "mssub", "mstout"), _boolean),
    **dict.fromkeys(("intsub", "tem"), _number),
}
"""Options of e-mails, in the order of messages."""


def _read_options(options: Mapping[str, Any]) -> tuple[dict[str, bool | float], dict[str, list[str]]]:
    """Return the values of valid options, and messages about others by name."""
    values: dict[str, bool | float] = {}
    errors: dict[str, list[str]] = {}
    for name, read in _OPTIONS.items():
        if name in options:
            try:
                values[name] = read(options[name])
            except _FieldError as error:
                errors[name] = [str(error)]
    errors |= {name: ["Unknown field."] for name in sorted(options.keys() - _OPTIONS.keys())}
    return values, errors


def _is_date(unix_time: float) -> bool:
    try:
        datetime.fromtimestamp(unix_time, UTC)
    except (ValueError, OverflowError, OSError):
        return False
    return True
