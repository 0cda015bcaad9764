"""Reads and checks the arguments of a request that are not parameters of its query: instrument, session, token."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mock_server.descriptions import UnknownProductError
from mock_server.job_id import job_id
from mock_server.tokens import ExpiredTokenError, InvalidTokenError, MalformedTokenError, Token, read_token
from oda_proxy.errors import BadQueryError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from mock_server.descriptions import Description
    from mock_server.fixture_library import FixtureLibrary
    from mock_server.settings import MockSettings

_SESSION_LETTERS: Final = string.ascii_uppercase + string.digits
_SESSION_LENGTH: Final = 16
# Invalid tokens that the dispatcher detects only once it knows the instrument.
_TOKENS_CHECKED_LATE: Final = ("", "None")
_FORBIDDEN: Final = 403
_SERVER_ERROR: Final = 500
_NO_ACCESS: Final = "Unfortunately, your priviledges are not sufficient to make the request for this instrument.\n"
_RESUBMIT: Final = "The token provided is expired, please resubmit you request with a valid token."


class RefusedError(BadQueryError):
    """A request that the dispatcher rejects before it runs a query.

    `kind` is the name of its exception; None for an exception that it does not expect.
    """

    def __init__(
        self,
        kind: str | None,
        message: str,
        *,
        status: int = BadQueryError.http_status,
        debug_message: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.debug_message = debug_message


class ServiceForbiddenError(BadQueryError):
    """A token that does not authorise a service route; the dispatcher sends the message as an HTML page."""

    http_status = 403


class InternalServerError(BadQueryError):
    """A request on which the dispatcher fails; it sends its page for status 500."""

    http_status = 500


@dataclass(frozen=True)
class RequestContext:
    """The arguments of a request that are not parameters of its query, and the time of the request (Unix time)."""

    description: Description
    product: str
    query_status: str
    session_id: str
    token_text: str | None
    token: Token | None
    time_request: float
    products_url: str

    @property
    def subject(self) -> str | None:
        """The identity that a token claims; None without a token."""
        return None if self.token is None else self.token.subject

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the token."""
        return () if self.token is None else self.token.roles


@dataclass(frozen=True)
class RequestReader:
    """Reads request contexts; errors are raised in the order in which the dispatcher checks."""

    settings: MockSettings
    library: FixtureLibrary
    wall_clock: Callable[[], float]
    random: random.Random

    def token(
        self, text: str | None, instrument: str = "instrument-not-set", *, is_description: bool = False
    ) -> Token | None:
        """Read the token of a request, or return None if it has none or the generation has none; raises RefusedError.

        A request for a description may have an empty token, or the text `None`.
        """
        if text is None or self.settings.generation == "2019" or (is_description and text in _TOKENS_CHECKED_LATE):
            return None
        try:
            return read_token(text, self.settings.secret_key, self.wall_clock())
        except MalformedTokenError as error:
            raise RefusedError("RequestNotUnderstood", constructor_failed(instrument, error)) from None
        except ExpiredTokenError:
            raise expired_token_error() from None
        except InvalidTokenError as error:
            raise _not_authorized(error) from None

    def service_token(
        self,
        text: str | None,
        role: str | None = None,
        *,
        purpose: str = "for this type of request",
        is_required: bool = False,
    ) -> Token | None:
        """Read the token of a service route, and check its role; raises ServiceForbiddenError, or InternalServerError.

        `purpose` is for the message about a missing role. Without a role, a token is optional unless `is_required`.
        """
        if text is None:
            if is_required or role is not None:
                raise ServiceForbiddenError("A token must be provided.")
            return None
        try:
            token = read_token(text, self.settings.secret_key, self.wall_clock())
        except ExpiredTokenError:
            raise ServiceForbiddenError("The token provided is expired.") from None
        except (InvalidTokenError, MalformedTokenError):
            raise ServiceForbiddenError("The token provided is not valid.") from None
        if role is not None and not isinstance(token.claims.get("roles"), str | list):
            raise InternalServerError("the dispatcher fails on a token without roles where it needs one")
        if role is not None and role not in token.roles:
            raise ServiceForbiddenError(
                f"Unfortunately, your privileges are not sufficient {purpose}.\n"
                f"Your privilege roles include {list(token.roles)}, but the following roles are missing: {role}."
            )
        return token

    def check_report_token(self, text: str | None) -> None:
        """Check the token of a back end's report; raises RefusedError, which calls every invalid token expired."""
        try:
            self.token(text)
        except RefusedError as error:
            if error.status == _FORBIDDEN:
                raise RefusedError("RequestNotAuthorized", _RESUBMIT, status=_FORBIDDEN) from None

    def visible_instruments(self, token: Token | None) -> list[str]:
        """Return the names of the instruments that the user of a token can use, sorted."""
        roles = frozenset(() if token is None else token.roles)
        return [name for name in self.library.instruments if self.library.descriptions[name].access_roles <= roles]

    def description(self, arguments: Mapping[str, Any], token: Token | None) -> Description:
        """Return the description of the instrument that a request names; raises RefusedError."""
        if "instrument" not in arguments:
            names = list(dict.fromkeys((*arguments, "session_id")))  # the dispatcher has added a session by then
            raise RefusedError("NoInstrumentSpecified", f"have parameters: {names} ")
        name = arguments["instrument"]
        description = self.library.descriptions.get(str(name))
        if description is None:
            instruments = self.library.instruments
            raise RefusedError("InstrumentNotRecognized", f'instrument: "{name}", known: {instruments}')
        if not description.access_roles <= frozenset(() if token is None else token.roles):
            raise RefusedError("RequestNotAuthorized", _NO_ACCESS, status=_FORBIDDEN, debug_message="")
        return description

    def context(self, arguments: Mapping[str, Any], products_url: str) -> RequestContext:
        """Read the context of a request for an analysis; raises RefusedError."""
        token_text = None if arguments.get("token") is None else str(arguments["token"])
        token = None if token_text in _TOKENS_CHECKED_LATE else self.token(token_text)
        description = self.description(arguments, token)
        if token_text in _TOKENS_CHECKED_LATE:
            token = self.token(token_text, description.name)
        if arguments.get("run_asynch", "True") not in ("True", "False"):
            reason = f"('run_asynch can be True or False, found', {arguments['run_asynch']!r})"
            raise RefusedError(None, reason, status=_SERVER_ERROR)
        if "query_status" not in arguments:
            raise RefusedError("RequestNotUnderstood", constructor_failed(description.name, "'query_status'"))
        for name in ("query_type", "product_type"):
            if name not in arguments:
                raise RefusedError("MissingRequestParameter", f"KeyError('{name}')")
        product = str(arguments["product_type"])
        try:
            description.product_query(product)
        except UnknownProductError as error:
            raise RefusedError("RequestNotUnderstood", constructor_failed(description.name, error)) from None
        session_id = self.session_id(arguments.get("session_id"))
        if "/" in session_id:  # the dispatcher creates a folder of that name before it reads parameters
            folder = f"scratch_sid_{session_id}_jid_{job_id(arguments, None if token is None else token.subject)}"
            cause = ("!Error error ", FileNotFoundError(2, "No such file or directory"), "in creating dir", folder)
            raise RefusedError("RequestNotUnderstood", constructor_failed(description.name, cause))
        return RequestContext(
            description=description,
            product=product,
            query_status=str(arguments["query_status"]),
            session_id=session_id,
            token_text=token_text,
            token=token,
            time_request=self.wall_clock(),
            products_url=products_url,
        )

    def session_id(self, value: Any) -> str:
        """Return the session of a request, or a new one if it has none."""
        if value in (None, "new"):
            return "".join(self.random.choices(_SESSION_LETTERS, k=_SESSION_LENGTH))
        return str(value)


def constructor_failed(instrument: str, reason: object) -> str:
    """Return the dispatcher's message for an error while it sets up a query."""
    return f"[ InstrumentQueryBackEnd : {instrument} ] constructor failed: {reason}"


def expired_token_error() -> RefusedError:
    """Return the error for an expired token."""
    return _not_authorized(ExpiredTokenError())


def _not_authorized(error: Exception) -> RefusedError:
    return RefusedError("RequestNotAuthorized", str(error), status=_FORBIDDEN, debug_message="")
