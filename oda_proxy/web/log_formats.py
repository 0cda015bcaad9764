"""The lines of the log, as text for people or as JSON for programs.

No line has a query string, a body or a header of a request: they may hold tokens and sessions. What a client sends is
logged only where it is known to be the name of something.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from oda_proxy.http.message import RequestNotes
    from oda_proxy.metrics.outcomes import Outcome

FORMAT: Final = "%(asctime)s %(levelname)s %(message)s"
EVENT: Final = "event"
"""Attribute of a `LogRecord`: which of a few events it reports; "message" by default."""
MEMBERS: Final = "members"
"""Attribute of a `LogRecord`: further members of its JSON object."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"})
MAX_PATH: Final = 500
"""Characters of a path that are logged."""
DIGITS: Final = 16
"""Hexadecimal digits of the hash of a person."""


class RequestRecord(NamedTuple):
    """What is logged of a request: its parts as they were, which only the log's thread formats."""

    created: float
    """The end of the answer, in s since 1970 (UTC)."""
    request_id: str
    method: str
    path: str
    """The encoded path; parts that may hold a token are left out when it is formatted."""
    status: int
    cache_status: str
    outcome: Outcome
    size: int
    """Bytes of the body of the answer."""
    seconds: float
    client: str
    """The address of the client."""
    notes: RequestNotes | None


class LineFormatter(Protocol):
    """Formats records as lines without a line break."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""

    def request_line(self, record: RequestRecord) -> str:
        """Return the line of a request."""


class TextFormatter(logging.Formatter):
    """Formats lines with their time, level and message; the time of a second is formatted once."""

    _second = -1
    _text = ""

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - its name
        """Return the local time of a record, with milliseconds."""
        return super().formatTime(record, datefmt) if datefmt else self._time(record.created)

    def request_line(self, record: RequestRecord) -> str:
        """Return the line of a request."""
        return f"{self._time(record.created)} INFO {request_text(record)}"

    def _time(self, created: float) -> str:
        second = int(created)
        if second != self._second:
            self._text, self._second = time.strftime(self.default_time_format, time.localtime(second)), second
        return f"{self._text},{int((created - second) * 1000):03d}"


def request_text(record: RequestRecord) -> str:
    """Return a request as text, without its time."""
    return (
        f"{_method(record)} {loggable_path(record.path)} {record.status} {record.cache_status} "
        f"{record.seconds:.3f} s {record.request_id}"
    )


class JsonFormatter(logging.Formatter):
    """Formats lines as JSON objects (RFC 8259), with times in UTC (RFC 3339).

    People are named by a hash with a key, or with `log_people` by the subject of their token.
    """

    _second = -1
    _text = ""

    def __init__(self, person_key: bytes, *, log_people: bool = False) -> None:
        super().__init__()
        self._person_key = person_key
        self._log_people = log_people

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        members = {
            "time": self._time(record.created),
            "level": record.levelname.lower(),
            "event": getattr(record, EVENT, "message"),
            "message": record.getMessage(),
            **getattr(record, MEMBERS, {}),
        }
        if record.exc_info:
            members["exception"] = self.formatException(record.exc_info)
        return _dumps(members)

    def request_line(self, record: RequestRecord) -> str:
        """Return the line of a request; members that are not known are left out.

        What many requests have in common is encoded once: at the pace of hits, encoding each line takes too long.
        """
        notes = record.notes
        names = (notes.instrument, notes.product, notes.key) if notes else ("", "", "")
        path = loggable_path(record.path)
        about = _about(_method(record), path, record.status, record.outcome.label, record.cache_status, *names)
        client = _client(record.client, self._person(notes.subject) if notes else "")
        return (
            f'{{"time":"{self._time(record.created)}","level":"info","event":"request",'
            f'"request_id":"{record.request_id}",{client},{about},"bytes":{record.size},"seconds":{record.seconds:.6f}}}'
        )

    def _person(self, subject: str) -> str:
        if not subject or self._log_people:
            return subject
        return hmac.new(self._person_key, subject.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:DIGITS]

    def _time(self, created: float) -> str:
        second = int(created)
        if second != self._second:
            self._text, self._second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)), second
        return f"{self._text}.{int((created - second) * 1000):03d}Z"


@lru_cache(maxsize=1024)
def _about(*values: str | int) -> str:
    """Return the members that say what a request was and what became of it, without braces."""
    names = ("method", "path", "status", "outcome", "cache_status", "instrument", "product", "key")
    return _dumps({name: value for name, value in zip(names, values, strict=True) if value != ""})[1:-1]


@lru_cache(maxsize=1024)
def _client(address: str, person: str) -> str:
    """Return the members that say who sent a request, without braces."""
    return _dumps({"client": address} | ({"person": person} if person else {}))[1:-1]


def _method(record: RequestRecord) -> str:
    """Return the method of a request; a client may make one up."""
    return record.method if record.method in _METHODS else "OTHER"


def _dumps(members: dict[str, Any]) -> str:
    return json.dumps(members, separators=(",", ":"), default=str)


_WORD: Final = r"(?:[a-z_-]{1,24}[0-9]{0,2}(?:\.[a-z]{2,5})?|v[0-9](?:\.[0-9])?)?"
_PLAIN_SEGMENT: Final = re.compile(_WORD)
_PLAIN_PATH: Final = re.compile(rf"{_WORD}(?:/{_WORD})*")


def loggable_path(path: str) -> str:
    """Return an encoded path for the log; `...` takes the place of a segment that may hold a token.

    The routes of dispatchers are words in small letters: any other segment may be a token or a session, and so may what
    follows an encoded question mark.
    """
    if len(path) > MAX_PATH:
        path = f"{path[:MAX_PATH]}%"  # what is cut is no word
    elif _PLAIN_PATH.fullmatch(path):
        return path
    segments = path.split("/")
    return "/".join(segment if _PLAIN_SEGMENT.fullmatch(segment) else "..." for segment in segments)
