"""How long clients pause between two polls, which bounds how long the proxy may hold a poll."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.query.cache_key import Key

MAX_SESSIONS: Final = 10_000
"""Sessions that are remembered."""
LONGEST: Final = 5.0
"""Seconds between two polls of a client that only waits; clients that pause longer do other things meanwhile."""


@dataclass(slots=True)
class _Session:
    key: Key
    """The query of the last request."""
    polls: int = 0
    """Polls of that query since the session last sent anything else."""
    answered_at: float = 0.0


class PollPauses:
    """The pauses of each session; `clock` returns s."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sessions: LRUCache[str, _Session] = LRUCache(MAX_SESSIONS)

    def submitted(self, session_id: str, key: Key) -> None:
        """Record a request that is not a poll."""
        self._sessions[session_id] = _Session(key)

    def polled(self, session_id: str, key: Key) -> float:
        """Record a poll, and return for how many s it may be held.

        Only the poll of a session that has sent nothing but polls of this query is held, and never longer than the
        session has paused before it.
        """
        session = self._sessions.get(session_id)
        if session is None or session.key != key:
            session = self._sessions[session_id] = _Session(key)
        session.polls += 1
        pause = self._clock() - session.answered_at
        return pause if session.polls > 1 and 0 <= pause <= LONGEST else 0.0

    def answered(self, session_id: str) -> None:
        """Record that the request of a session was answered."""
        if session := self._sessions.get(session_id):
            session.answered_at = self._clock()
