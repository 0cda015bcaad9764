"""Every error this project raises: whose fault it was, and what to do.

Each message is one line for a person. A command ends with `exit_status`; a client is told `http_status`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path


class OdaProxyError(Exception):
    """Base of all errors raised here."""

    exit_status: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    word: ClassVar[str] = "error"
    """What `Cache-Status` calls it."""


class UsageError(OdaProxyError):
    """A command line, environment variable or configuration file says something impossible."""

    exit_status = 2


class BadQueryError(OdaProxyError):
    """A request cannot be read as a query."""

    http_status = 400
    word = "bad-request"


class RouteClosedError(OdaProxyError):
    """A route that no client should reach through a proxy."""

    http_status = 403
    word = "closed-route"

    def __init__(self, route: str) -> None:
        super().__init__(
            f"the route /{route} of the dispatcher is closed here: it changes or reveals what belongs to the server; "
            f"to open it, start the proxy with --open-route {route}"
        )


class UpstreamUnreachableError(OdaProxyError):
    """The dispatcher cannot be asked."""

    http_status = 502
    word = "unreachable"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"cannot reach the dispatcher {url}: {reason}")
        self.reason = reason


class UpstreamSlowError(UpstreamUnreachableError):
    """The dispatcher took the connection and did not answer in time; it may still be at work on the request."""


class UpstreamPausedError(UpstreamUnreachableError):
    """The dispatcher is left alone for a while: it wants that, or failed lately. Nothing was sent to it."""

    http_status = 503
    word = "paused"

    def __init__(self, url: str, reason: str, retry_after: float, *, is_down: bool = False) -> None:
        """Take how long, in s, until it is worth asking again, and whether nobody answers there."""
        super().__init__(url, f"{reason}; ask again in {math.ceil(retry_after)} s")
        self.retry_after = retry_after
        self.is_down = is_down


class NoRecordingError(OdaProxyError):
    """Nothing was recorded for a query, and there is nobody to ask."""

    http_status = 400
    word = "no-recording"


class TokenRefusedError(OdaProxyError):
    """A token has expired or was not signed by the dispatcher, in the dispatcher's own words."""

    http_status = 403
    word = "token"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"The token provided is {what}, please try to logout and login again. "
            "If already logged out, please clean the cookies, and resubmit you request."
        )


class NotCachedError(NoRecordingError):
    """Nothing was recorded for a query, and the request wants nothing else (RFC 9111, section 5.2.1.7)."""

    http_status = 504

    def __init__(self) -> None:
        super().__init__("there is no recording of this, and the request said only-if-cached")


class StoreUnusableError(OdaProxyError):
    """The folder of the store cannot be used."""

    word = "store-failed"

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"cannot keep recordings in {folder}: {reason}; name another folder with --cache-dir")


class ListenError(OdaProxyError):
    """A server cannot listen where it was told to."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"cannot listen on {host} port {port}: {reason}; choose others with --host and --port")


class FixtureError(OdaProxyError):
    """A file of a folder of fixtures is missing, changed, or not what the format says."""

    def __init__(self, file: Path | str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file


class CodecError(OdaProxyError):
    """A product cannot be encoded, or its bytes do not decode to one."""


class ForbiddenPickleError(CodecError):
    """A pickle names something that is not on the allow-list."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the pickle names {name}, which is not on the allow-list; nothing of it was loaded")
        self.name = name
