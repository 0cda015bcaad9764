"""Marks of the sessions that have joined a job: replicas compare them, and no session can be found from one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from oda_proxy.jobs.running_job import RunningJob
    from oda_proxy.query.cache_key import Key

DIGITS: Final = 16
"""Hexadecimal digits of a mark: nobody guesses a session that has it, which may stop a job. A session has more bits."""
MAX_AT_ONCE: Final = 500
"""Marks that are published at once; the others follow."""


def marks_of(key: Key, sessions: Iterable[str]) -> set[str]:
    """Return the marks of sessions for the job of a key."""
    return {_mark(key, session_id) for session_id in sessions}


class UnpublishedMarks:
    """The marks that are still to be published under the lease of a job."""

    def __init__(self, running: RunningJob) -> None:
        self._running = running
        self._fence: int | None = None
        self._published = 0

    def under(self, fence: int | None) -> Sequence[str]:
        """Return some marks to be published under the lease with a fencing token: of all sessions, for a new lease."""
        if fence != self._fence:
            self._fence, self._published = fence, 0
        sessions = self._running.joined_sessions[self._published : self._published + MAX_AT_ONCE]
        return [_mark(self._running.resolved.key, session_id) for session_id in sessions]

    def note_published(self, marks: Sequence[str]) -> None:
        """Note that marks were published."""
        self._published += len(marks)


def _mark(key: Key, session_id: str) -> str:
    return hashlib.sha256(f"{key} {session_id}".encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]
