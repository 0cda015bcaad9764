"""What became of a request, as one word that is a label of metrics and a member of log lines."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from oda_proxy.http.cache_status import CacheStatus


class Outcome(IntEnum):
    """What became of a request; the value is a position in a list of counts."""

    HIT_HOT = 0
    """Served from a recording in memory."""
    HIT_COLD = 1
    """Served from a recording that was read from the store, or from a cached description."""
    STALE = 2
    """Served from a recording that has expired, because the dispatcher is unavailable."""
    MISS = 3
    """Sent to the dispatcher: there is no recording."""
    EXPIRED = 4
    """Sent to the dispatcher: the recording has expired."""
    REFRESHED = 5
    """Sent to the dispatcher: the request itself asked for that."""
    BYPASS = 6
    """Sent to the dispatcher: requests of this kind are not stored."""
    JOINED = 7
    """Answered by a job that ran already."""
    REFUSED = 8
    """Refused by the proxy: the request is not valid, or nothing could be sent for it."""
    FAILED = 9
    """An error of the proxy, of the dispatcher's connection, or of the job of another client."""

    @property
    def label(self) -> str:
        """The word."""
        return self.name.lower()


OUTCOMES: Final = tuple(outcome.label for outcome in Outcome)

_FORWARDED: Final = {
    "uri-miss": Outcome.MISS,
    "stale": Outcome.EXPIRED,
    "request": Outcome.REFRESHED,
    "bypass": Outcome.BYPASS,
}
_REFUSALS: Final = frozenset(
    {"", "bad-request", "client-limit", "closed-route", "local-limit", "no-files", "no-recording", "paused", "token"}
)
"""Details of answers of the proxy itself that say that it sent nothing, or need not; "" is an answer to `OPTIONS`."""


def outcome_of(status: CacheStatus) -> Outcome:
    """Return what became of a request, from the cache status of its answer."""
    if status.hit:
        if status.detail == "stale":
            return Outcome.STALE
        return Outcome.HIT_HOT if status.from_memory else Outcome.HIT_COLD
    if status.collapsed:
        return Outcome.FAILED if status.detail == "failed" else Outcome.JOINED
    if status.forwarded is not None:
        return _FORWARDED[status.forwarded]
    return Outcome.REFUSED if status.detail in _REFUSALS else Outcome.FAILED
