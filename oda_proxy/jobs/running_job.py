"""A job that runs, with the clients that wait for it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from cachetools import LRUCache

from oda_proxy.jobs.job import Job, State
from oda_proxy.jobs.notices import Notices
from oda_proxy.jobs.requests import with_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oda_proxy.errors import OdaProxyError
    from oda_proxy.http.answer import Answer
    from oda_proxy.http.cache_status import Forwarded
    from oda_proxy.jobs.client import Client
    from oda_proxy.jobs.outcome import Outcome
    from oda_proxy.query.query import Envelope, Token
    from oda_proxy.query.resolved import ResolvedQuery

MAX_SESSIONS: Final = 10_000
"""Sessions of one job whose last response is noted."""
MAX_SUCCESSORS: Final = 16
"""Clients with tokens of their own that can take a job over."""
REFRESH_INTERVAL: Final = 60.0
"""Seconds in which one resubmission of a running job serves all clients that want a refresh."""
WATCHED_FOR: Final = 30.0
"""Seconds after its last response for which a client counts as waiting."""

ANONYMOUS: Final = frozenset({"", "new"})
"""Session ids of clients that have none: dispatchers create one."""

_STARTED: Final = frozenset({State.RESUBMIT, State.SUBMITTED, State.PROGRESS})
"""States in which the dispatcher has answered, and is not about to send products."""


@dataclass(slots=True)
class Timestamps:
    """When the last of several events of a job was, in s since 1970 (UTC)."""

    changed: float
    """The dispatcher reported anything new."""
    answered: float
    """The dispatcher answered."""
    submitted: float
    """The job was submitted to the dispatcher."""
    without_record: float = 0.0
    """The first poll since which the dispatcher has had no record of the job; 0 where it has one."""
    refreshed: float = float("-inf")
    """A client wanted it to be computed again."""
    unreadable: float = float("inf")
    """The first request since its end for which its recording could not be read; infinity where there is none."""


class RunningJob:
    """One job and its clients. It changes only in the event loop; `clock` returns s since 1970 (UTC)."""

    def __init__(
        self,
        resolved: ResolvedQuery,
        client: Client,
        *,
        started_at: float,
        clock: Callable[[], float],
        forwarded: Forwarded = "uri-miss",
    ) -> None:
        self.resolved = resolved
        self.client = client
        """Whose session and token the requests to the dispatcher have."""
        self.forwarded = forwarded
        """Why requests are sent to the dispatcher."""
        self.job = Job(started_at)
        self.reports: tuple[Mapping[str, Any], ...] = ()
        self.owner_reports: tuple[Mapping[str, Any], ...] = ()
        """The same with all their members, for the owner."""
        self.notices = Notices()
        """What else the dispatcher says of it."""
        self.submission = Notices()
        """What the dispatcher said in its answer to the last submission."""
        self.times = Timestamps(changed=started_at, answered=started_at, submitted=started_at)
        self.is_queued = False
        self.is_elsewhere = False
        """Whether another process, on the same folder or of another replica, polls the dispatcher for it."""
        self.fence: int | None = None
        """The fencing token of the lease under which this replica runs it; None where there is none."""
        self.is_shared = True
        """Whether it is the job of all clients of the query, and not of one token or session."""
        self.resumed, self.seen_running, self.was_run_here = False, False, False
        """Whether an earlier process started it, whether this process has seen the dispatcher work on it, and whether
        this process has sent requests for it since another one did."""
        self.outcome: Outcome | None = None
        self.stopped_by: OdaProxyError | None = None
        """Why it was cancelled before its end."""
        self.job_id = ""
        """The name under which clients know it, once one was sent."""
        self.polls, self.sessions = 0, 0
        """How many polls were sent, and how many sessions have joined it."""
        self.closing, self.completion = False, 0
        """Its place among the jobs that have ended, as `JobRegistry.completions` counts."""
        self._clock = clock
        self._owner_sessions = {client.envelope.session_id} - ANONYMOUS
        self._first_client = client
        self._resubmit = False
        self._resubmitting = False
        self._successors: deque[Client] = deque(maxlen=MAX_SUCCESSORS)
        self._tokens: set[Token | None] = set()
        self._refused: set[Token | None] = set()
        self._sent: LRUCache[str, int] = LRUCache(MAX_SESSIONS)
        self._joined: LRUCache[str, int] = LRUCache(MAX_SESSIONS)
        self.joined_sessions: list[str] = []
        """The sessions that have joined it, in order; of very many, the first ones."""
        self._version, self._answers = 0, 0
        self._answered_polls, self._outdated_polls = 0, -1
        self._waiting = 0
        self._last_seen = started_at
        self._changed = asyncio.Event()
        self._watched = asyncio.Event()

    @property
    def is_watched(self) -> bool:
        """Whether a client waits for it."""
        return self._waiting > 0 or self._clock() - self._last_seen < WATCHED_FOR

    @property
    def status(self) -> str:
        """The `query_status` that clients receive while it runs."""
        return "progress" if self.job.state in {State.PROGRESS, State.READY} else "submitted"

    def join(self, client: Client) -> bool:
        """Add a client; return whether its session is new."""
        is_new = client.envelope.session_id not in self._sent
        if is_new:
            self._sent[client.envelope.session_id] = -1
            self._joined[client.envelope.session_id] = self._answers
            self.sessions += 1
            self._note_session(client.envelope.session_id)
        token = client.envelope.token
        self._tokens.add(token)
        successors = {one.envelope.token for one in (self.client, *self._successors)}
        if token is not None and token not in successors | self._refused:
            self._successors.append(client)
        return is_new

    def _note_session(self, session_id: str) -> None:
        if session_id not in ANONYMOUS and len(self.joined_sessions) < MAX_SESSIONS:
            self.joined_sessions.append(session_id)

    def has_session(self, session_id: str) -> bool:
        """Return whether a session has joined."""
        return session_id in self._sent

    def was_silent_since_join(self, session_id: str) -> bool:
        """Return whether a session has joined after an answer of the dispatcher, and none came since but the end."""
        return 0 < self._joined.get(session_id, 0) == self._answers

    def has_token(self, token: Token | None) -> bool:
        """Return whether a client with this token has joined: it stays joined, however long the job takes."""
        return token in self._tokens

    def is_owner(self, client: Client) -> bool:
        """Return whether the job has the session and token of a client.

        Without a session, a client owns the jobs of its token, and one without a token only its own request.
        """
        envelope = client.envelope
        if envelope.token != self.client.envelope.token:
            return False
        if client is self.client or client is self._first_client:
            return True
        if envelope.session_id in ANONYMOUS:
            return envelope.token is not None
        return envelope.session_id in self._owner_sessions

    def is_owned_alone_by(self, session_id: str) -> bool:
        """Return whether a session owns the job, and no other has joined it."""
        return session_id in self._owner_sessions and set(self._sent) <= self._owner_sessions | ANONYMOUS

    @property
    def owner_sessions(self) -> frozenset[str]:
        """The sessions of its owner."""
        return frozenset(self._owner_sessions)

    def adopt_session(self, session_id: str) -> None:
        """Continue in the session that the dispatcher created for a client without one."""
        client, envelope = self.client, self.client.envelope
        request = with_fields(client.request, session_id=session_id)
        self.client = replace(client, request=request, envelope=replace(envelope, session_id=session_id))
        self.add_owner_session(session_id)

    def add_owner_session(self, session_id: str) -> None:
        """Add a session id under which the owner polls."""
        self._owner_sessions.add(session_id)
        if session_id not in self._sent:
            self._sent[session_id] = -1
            self._note_session(session_id)

    def job_id_for(self, envelope: Envelope, *, default: str) -> str:
        """Return the job_id for a client, always the same: the one it sent, or the one that all others received."""
        if envelope.job_id:
            return envelope.job_id
        self.job_id = self.job_id or self.job.job_id or default
        return self.job_id

    def take_answer(self, client: Client) -> Answer | None:
        """Return the dispatcher's own answer, once and only to its owner."""
        if self.outcome is None or self.outcome.answer is None or not self.is_owner(client):
            return None
        answer = self.outcome.answer
        self.outcome = replace(self.outcome, answer=None)
        return answer

    def hand_over(self) -> bool:
        """Continue with the token of another client; return whether there is one."""
        self._refused.add(self.client.envelope.token)
        if not self._successors:
            return False
        self.client = self._successors.popleft()
        self.owner_reports = self.reports
        self.notices, self.submission = self.notices.without_owner(), self.submission.without_owner()
        self._owner_sessions = {self.client.envelope.session_id} - ANONYMOUS
        return True

    def note_refresh(self, *, is_owner: bool) -> bool:
        """Note that a client wants it computed again; return whether it is, for that.

        It is each time for the owner, and once in a while for all others.
        """
        now = self._clock()
        if not is_owner and now - self.times.refreshed <= REFRESH_INTERVAL:
            return False
        self.times.refreshed = now
        return True

    def request_resubmission(self) -> None:
        """Have the job submitted once more, now."""
        self._resubmit = self._resubmitting = True

    def take_resubmission(self) -> bool:
        """Return whether the next request has to submit the job once more."""
        resubmit, self._resubmit = self._resubmit, False
        return resubmit and self.job.state is not State.NEW

    def end_resubmission(self) -> None:
        """Note that the dispatcher has answered a submission."""
        self._resubmitting = self._resubmit

    def notify(self) -> None:
        """Wake the waiting clients: the job has changed."""
        self._version += 1
        self._wake()

    @property
    def changes(self) -> int:
        """How often it has changed, or the dispatcher has answered."""
        return self._version + self._answers

    async def wait_beyond(self, changes: int) -> None:
        """Wait until `changes` is another number."""
        while self.changes == changes:
            await self._changed.wait()

    def note_watched(self) -> None:
        """Note that a client of another replica waits for it."""
        self._last_seen = self._clock()
        self._watched.set()

    def note_news(self) -> None:
        """Note that there is something new of the job, and wake the waiting clients."""
        self.times.changed = self._clock()
        self.notify()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def is_outdated(self) -> bool:
        """Whether the dispatcher has received a report on the job since the last poll that it has answered."""
        return self._answered_polls <= self._outdated_polls

    def note_report(self) -> None:
        """Note that the dispatcher has received a report on the job, which is in no answer to a poll sent before."""
        self._outdated_polls = self.polls
        self._watched.set()

    def note_answer(self) -> None:
        """Note that the dispatcher has answered."""
        self.times.answered = self._clock()
        self._answers += 1
        self._answered_polls = self.polls
        self._wake()

    async def wait_for_change(
        self,
        session_id: str,
        timeout: float,  # noqa: ASYNC109 - it is no error
        *,
        or_answer: bool = False,
    ) -> None:
        """Wait for a change that a session has not received yet, at most `timeout` s.

        With `or_answer`, the next answer of the dispatcher ends the wait, too.
        """
        seen, answers = self._sent.get(session_id, -1), self._answers

        def has_news() -> bool:
            return not self.is_outdated and (self._version > seen or (or_answer and self._answers > answers))

        await self._wait(session_id, timeout, has_news)

    async def wait_for_start(self, session_id: str, timeout: float) -> None:  # noqa: ASYNC109 - it is no error
        """Wait until the dispatcher has answered, is unavailable, or the job is queued, at most `timeout` s."""

        def has_started() -> bool:
            if self.is_queued or self.is_elsewhere or self.job.errors > 0:
                return True
            return self.job.state in _STARTED and not self._resubmitting

        await self._wait(session_id, timeout, has_started)

    async def wait_until_submitted(self) -> None:
        """Wait until the dispatcher has answered the first submission."""
        while self.job.state is State.NEW and not (self.is_queued or self.is_elsewhere or self.outcome):
            await self._changed.wait()

    async def _wait(self, session_id: str, seconds: float, is_over: Callable[[], bool]) -> None:
        self._waiting += 1
        self._watched.set()
        try:
            async with asyncio.timeout(seconds):
                while not (self.closing or self.outcome or is_over()):
                    await self._changed.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1
            self._last_seen = self._clock()
            self._sent[session_id] = self._version

    async def wait_until_watched(self) -> None:
        """Wait until a client waits for the job."""
        self._watched.clear()
        if self._waiting:
            return
        await self._watched.wait()
