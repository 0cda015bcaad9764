"""The errors of this project.

Each message is one line that names the cause and what to do. `exit_status` is the status of a command that fails with
the error, `http_status` that of a response.
"""

from __future__ import annotations

import math
from pathlib import Path
from traceback import extract_tb
from typing import ClassVar


class OdaProxyError(Exception):
    """Base of all errors of this project."""

    exit_status: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    detail: ClassVar[str] = "error"
    """The `detail` parameter of `Cache-Status` (RFC 9211, section 2.8)."""


class InternalError(OdaProxyError):
    """A fault of this program, or of a library that it uses; the log says where."""

    detail = "internal-error"

    def __init__(self, error: Exception) -> None:
        super().__init__(f"internal error of oda-proxy ({type(error).__name__}); its log says where")
        places = [
            f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno}" for frame in extract_tb(error.__traceback__)
        ]
        self.log_line = f"internal error: {type(error).__name__} in {' <- '.join(places[:-4:-1]) or 'an unknown place'}"
        """Where it was raised, for the log; without the message of the error, which may hold a token."""


class UsageError(OdaProxyError):
    """A command line, an environment variable or a configuration file is not valid."""

    exit_status = 2


class InvalidPartError(ValueError):
    """A part of the value of an option is not valid; the message goes on after the name of the option."""


class BadQueryError(OdaProxyError):
    """A request is not a valid query."""

    http_status = 400
    detail = "bad-request"


class RouteClosedError(OdaProxyError):
    """The route is closed to clients of the proxy."""

    http_status = 403
    detail = "closed-route"

    def __init__(self, route: str) -> None:
        super().__init__(
            f"this proxy does not forward /{route}, which changes or reveals data of the server; "
            f"to open it, start the proxy with --open-route {route}"
        )


class UpstreamUnreachableError(OdaProxyError):
    """The dispatcher cannot be reached."""

    http_status = 502
    detail = "unreachable"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"cannot reach the dispatcher {url}: {reason}")
        self.reason = reason


class UpstreamSlowError(UpstreamUnreachableError):
    """The dispatcher accepted the connection but did not respond in time; it may still process the request."""


class LocalLimitError(UpstreamUnreachableError):
    """No request was sent: this process or machine has reached a limit, which says nothing about the dispatcher."""

    http_status = 503
    detail = "local-limit"

    def __init__(self, url: str, reason: str) -> None:
        limits = "open files (ulimit -n), ports or memory"
        super().__init__(url, f"{reason}: the proxy or its machine is at its limit of {limits}")


class UpstreamPausedError(UpstreamUnreachableError):
    """No request was sent: the dispatcher demanded a pause, or failed repeatedly (circuit breaker)."""

    http_status = 503
    detail = "paused"

    def __init__(self, url: str, reason: str, retry_after: float, *, is_down: bool = False) -> None:
        """`retry_after` is in s; `is_down` means that the dispatcher does not respond at all."""
        super().__init__(url, f"{reason}; retry in {math.ceil(retry_after)} s")
        self.retry_after = retry_after
        self.is_down = is_down


class RequestIncompleteError(OdaProxyError):
    """A client disconnected before it had sent its whole request."""

    http_status = 400
    detail = "bad-request"

    def __init__(self) -> None:
        super().__init__("the client disconnected before it had sent its whole request")


class NoRecordingError(OdaProxyError):
    """There is no recording for a query, and no dispatcher to send it to."""

    http_status = 400
    detail = "no-recording"


class FilesNotStoredError(OdaProxyError):
    """The files of a job are requested in a session that received a recording, or joined the job of another."""

    http_status = 404
    detail = "no-files"

    def __init__(self) -> None:
        super().__init__(
            "the dispatcher has no files for this session, which received a recording of the proxy or joined another "
            "client's job; send the query with Cache-Control: no-cache, then download the files"
        )


class TokenRefusedError(OdaProxyError):
    """A token has expired or has an invalid signature; the message is that of the dispatcher."""

    http_status = 403
    detail = "token"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"The token provided is {what}, please try to logout and login again. "
            "If already logged out, please clean the cookies, and resubmit you request."
        )


class NotCachedError(NoRecordingError):
    """There is no recording for a request with `only-if-cached` (RFC 9111, section 5.2.1.7)."""

    http_status = 504

    def __init__(self) -> None:
        super().__init__("there is no recording of this query, and the request has Cache-Control: only-if-cached")


class StoreUnusableError(OdaProxyError):
    """The store cannot be read or written."""

    detail = "store-failed"

    def __init__(self, place: Path | str, reason: str, advice: str = "name another folder with --cache-dir") -> None:
        super().__init__(f"cannot use the recordings in {place}: {reason}; {advice}")
        self.place = str(place)
        self.reason = reason


class ListenError(OdaProxyError):
    """A server cannot listen on its address."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"cannot listen on {host} port {port}: {reason}; choose others with --host and --port")


class FixtureError(OdaProxyError):
    """A file in a folder of fixtures is missing, changed, or not in the format of fixtures."""

    def __init__(self, file: Path | str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file


class UnwritableFixtureError(FixtureError):
    """A file of a fixture cannot be written, such as on a full disk."""


class CodecError(OdaProxyError):
    """A product cannot be encoded or decoded."""


class ForbiddenPickleError(CodecError):
    """A pickle refers to a name that is not on the allow-list."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the pickle refers to {name}, which is not on the allow-list; it was not loaded")
        self.name = name
