"""The sessions that were served lately."""

from __future__ import annotations

from oda_proxy.handlers.sessions import ServedSessions


def test_the_session_that_was_served_last_for_the_longest_time_is_forgotten_first() -> None:
    sessions = ServedSessions(limit=3)

    for session_id in ("one", "two", "three", "one", "four"):
        sessions.add(session_id)

    assert [session_id in sessions for session_id in ("one", "two", "three", "four")] == [True, False, True, True]
