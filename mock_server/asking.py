"""Who asks, and about what: the arguments of a request that are no parameters of its query."""

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
    from mock_server.library import Library
    from mock_server.settings import MockSettings

_SESSION_LETTERS: Final = string.ascii_uppercase + string.digits
_SESSION_LENGTH: Final = 16
# Texts that are no token but are found out only when the instrument is known.
_LATE_TOKENS: Final = ("", "None")
_FORBIDDEN: Final = 403
_BROKEN: Final = 500
_RESUBMIT: Final = "The token provided is expired, please resubmit you request with a valid token."


class RefusedError(BadQueryError):
    """A request that the dispatcher does not begin to serve.

    `kind` is the name of its exception; None where that is one that it does not expect.
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


class ServiceClosedError(BadQueryError):
    """A token does not open a service route; the message is the dispatcher's, which sends it as a page."""

    http_status = 403


@dataclass(frozen=True)
class Asker:
    """What a request says beside the parameters of its query, and when it came (Unix time)."""

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
class Reception:
    """Reads who asks, and refuses in the order in which the dispatcher finds faults."""

    settings: MockSettings
    library: Library
    wall_clock: Callable[[], float]
    random: random.Random

    def token(
        self, text: str | None, context: str = "instrument-not-set", *, is_description: bool = False
    ) -> Token | None:
        """Read the token of a request, where it has one and the dispatcher knows tokens; raises RefusedError.

        Who asks for a description may send an empty token, and `None`.
        """
        if text is None or self.settings.generation == "2019" or (is_description and text in _LATE_TOKENS):
            return None
        try:
            return read_token(text, self.settings.secret_key, self.wall_clock())
        except MalformedTokenError as error:
            raise RefusedError("RequestNotUnderstood", constructor_failed(context, error)) from None
        except ExpiredTokenError:
            raise expired_token() from None
        except InvalidTokenError as error:
            raise _not_authorized(error) from None

    def service_token(self, text: str | None, role: str | None = None) -> Token | None:
        """Read the token for a service route, and see that it has the role; raises ServiceClosedError."""
        if text is None:
            if role is not None:
                raise ServiceClosedError("A token must be provided.")
            return None
        try:
            token = read_token(text, self.settings.secret_key, self.wall_clock())
        except ExpiredTokenError:
            raise ServiceClosedError("The token provided is expired.") from None
        except (InvalidTokenError, MalformedTokenError):
            raise ServiceClosedError("The token provided is not valid.") from None
        if role is not None and role not in token.roles:
            raise ServiceClosedError(
                "Unfortunately, your privileges are not sufficient for this type of request.\n"
                f"Your privilege roles include {list(token.roles)}, but the following roles are missing: {role}."
            )
        return token

    def reporter(self, text: str | None) -> None:
        """See that the token of a report is valid; raises RefusedError, which calls any other an expired one."""
        try:
            self.token(text)
        except RefusedError as error:
            if error.status == _FORBIDDEN:
                raise RefusedError("RequestNotAuthorized", _RESUBMIT, status=_FORBIDDEN) from None

    def description(self, arguments: Mapping[str, Any]) -> Description:
        """Return the description of the instrument that a request names; raises RefusedError."""
        if "instrument" not in arguments:
            names = list(dict.fromkeys((*arguments, "session_id")))  # which the dispatcher has made by then
            raise RefusedError("NoInstrumentSpecified", f"have parameters: {names} ")
        name = arguments["instrument"]
        description = self.library.descriptions.get(str(name))
        if description is None:
            known = self.library.instruments
            raise RefusedError("InstrumentNotRecognized", f'instrument: "{name}", known: {known}')
        return description

    def asker(self, arguments: Mapping[str, Any], products_url: str) -> Asker:
        """Read who asks for an analysis; raises RefusedError."""
        token_text = None if arguments.get("token") is None else str(arguments["token"])
        token = None if token_text in _LATE_TOKENS else self.token(token_text)
        description = self.description(arguments)
        if token_text in _LATE_TOKENS:
            token = self.token(token_text, description.name)
        if arguments.get("run_asynch", "True") not in ("True", "False"):
            reason = f"('run_asynch can be True or False, found', {arguments['run_asynch']!r})"
            raise RefusedError(None, reason, status=_BROKEN)
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
        session_id = self._session_id(arguments.get("session_id"))
        if "/" in session_id:  # the dispatcher makes a folder of that name, before it reads any parameter
            folder = f"scratch_sid_{session_id}_jid_{job_id(arguments, None if token is None else token.subject)}"
            cause = ("!Error error ", FileNotFoundError(2, "No such file or directory"), "in creating dir", folder)
            raise RefusedError("RequestNotUnderstood", constructor_failed(description.name, cause))
        return Asker(
            description=description,
            product=product,
            query_status=str(arguments["query_status"]),
            session_id=session_id,
            token_text=token_text,
            token=token,
            time_request=self.wall_clock(),
            products_url=products_url,
        )

    def _session_id(self, given: Any) -> str:
        if given in (None, "new"):
            return "".join(self.random.choices(_SESSION_LETTERS, k=_SESSION_LENGTH))
        return str(given)


def constructor_failed(context: str, reason: object) -> str:
    """Write how the dispatcher reports a fault that it finds while it sets up a query."""
    return f"[ InstrumentQueryBackEnd : {context} ] constructor failed: {reason}"


def expired_token() -> RefusedError:
    """Make the refusal of a token of the past."""
    return _not_authorized(ExpiredTokenError())


def _not_authorized(error: Exception) -> RefusedError:
    return RefusedError("RequestNotAuthorized", str(error), status=_FORBIDDEN, debug_message="")
