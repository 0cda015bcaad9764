"""The account of each request: its id, its place in the counts, its line in the log."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
from typing import TYPE_CHECKING, Final

from aiohttp import web

from oda_proxy.web.log_thread import log_request

if TYPE_CHECKING:
    from oda_proxy.metrics.request_counts import RequestCounts
    from oda_proxy.web.log_formats import RequestRecord

_log = logging.getLogger(__name__)

HEADER: Final = "X-Request-ID"
"""Header of each answer, with the id under which the log has the request."""
_WELL_FORMED: Final = re.compile(r"[A-Za-z0-9._=+/-]{1,64}")


class RequestIds:
    """Makes ids that no other request of any process has: a random prefix and a number."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    def new(self) -> str:
        """Return a new id."""
        return f"{self._prefix}-{next(self._numbers):x}"


REQUEST_IDS = web.AppKey("request ids", RequestIds)
"""Where an application gets ids from."""
REQUEST_ID = web.RequestKey("request id", str)
"""The id of a request for an own page."""


def well_formed(request_id: str) -> str | None:
    """Return an id that a front end has sent, or None where it is none: the log and a header take it as it is."""
    return request_id if _WELL_FORMED.fullmatch(request_id) else None


class RequestLog:
    """Counts and logs the requests of clients."""

    def __init__(self, counts: RequestCounts) -> None:
        self._counts = counts

    def note(self, record: RequestRecord, *, received: int = 0) -> None:
        """Count and log a request that was answered; `received` is the number of bytes of its body."""
        counts = self._counts
        counts.add(record.path, record.outcome, record.seconds)
        counts.received += received
        counts.sent += record.size
        log_request(_log, record)
