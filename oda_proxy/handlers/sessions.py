"""The sessions that were served lately."""

from __future__ import annotations

from collections import OrderedDict

MAX_SESSIONS = 10_000
"""Sessions that are remembered; the one that was served last for the longest time is forgotten first."""


class ServedSessions:
    """The last sessions that were served a recording, or the job of another client."""

    def __init__(self, limit: int = MAX_SESSIONS) -> None:
        self._limit = limit
        self._sessions: OrderedDict[str, None] = OrderedDict()

    def add(self, session_id: str) -> None:
        """Add a session that is served now."""
        self._sessions[session_id] = None
        self._sessions.move_to_end(session_id)
        if len(self._sessions) > self._limit:
            self._sessions.popitem(last=False)

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._sessions
