"""At most one running job for each question: who asks meanwhile joins, and is told of every change at once."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cachetools import LRUCache, TTLCache

from oda_proxy.errors import OdaProxyError
from oda_proxy.jobs.job import Job, State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from oda_proxy.http.answer import Answer
    from oda_proxy.http.cache_status import Forwarded
    from oda_proxy.http.message import Request
    from oda_proxy.query.query import Envelope, Token
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.recordings.failures import Failure
    from oda_proxy.recordings.recording import Recording

_log = logging.getLogger(__name__)

MOST_SESSIONS: Final = 10_000
"""Sessions of which it is remembered what each was told last of one job."""
MOST_SUCCESSORS: Final = 16
"""Askers with tokens of their own that can take a job over."""
MOST_ENDED: Final = 1024
ENDED_FOR: Final = 120.0
"""Seconds for which the end of a job is remembered: clients ask every second or two."""
WATCHED_FOR: Final = 30.0
"""Seconds after its last answer for which a client counts as waiting."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks, with which request; `here` is our own address as they know it."""

    request: Request
    envelope: Envelope
    here: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: with the dispatcher's last answer, or given up for a reason of ours.

    `answer` is repaired, and the asker's with whose session the dispatcher was asked. `recording` or `failure` is what
    everyone may have of it; where there is neither, the answer cannot be shared.
    """

    answer: Answer | None = None
    is_done: bool = False
    """Whether it is a success."""
    error: OdaProxyError | None = None
    recording: Recording | None = None
    failure: Failure | None = None
    stored: bool = False


class RunningJob:
    """One job, and everyone who waits for it. It changes only in the event loop."""

    def __init__(
        self,
        resolved: ResolvedQuery,
        client: Client,
        *,
        begun: float,
        clock: Callable[[], float],
        forwarded: Forwarded = "uri-miss",
    ) -> None:
        self.resolved = resolved
        self.client = client
        self.forwarded = forwarded
        """Why the dispatcher is asked."""
        self.job = Job(begun)
        self.reports: tuple[Mapping[str, Any], ...] = ()
        self.is_queued = False
        self.resumed = False
        """Whether an earlier run of this program began it."""
        self.was_seen = False
        """Whether the dispatcher was seen at work on it by this run."""
        self.outcome: Outcome | None = None
        self.job_id = ""
        """The name under which clients know it, once one was told."""
        self.polls = 0
        self.sessions = 0
        """How many have asked for it."""
        self.closing = False
        self.turn = 0
        """When it ended, as `InFlight.turn` counts."""
        self._clock = clock
        self._successors: deque[Client] = deque(maxlen=MOST_SUCCESSORS)
        self._tokens: set[Token | None] = set()
        self._refused: set[Token | None] = set()
        self._told: LRUCache[str, int] = LRUCache(MOST_SESSIONS)
        self._version = 0
        self._waiting = 0
        self._last_seen = begun
        self._news = asyncio.Event()
        self._watched = asyncio.Event()

    @property
    def is_watched(self) -> bool:
        """Whether anyone waits for it."""
        return self._waiting > 0 or self._clock() - self._last_seen < WATCHED_FOR

    @property
    def status(self) -> str:
        """What clients are told of it while it runs."""
        return "progress" if self.job.state in {State.PROGRESS, State.READY} else "submitted"

    def admit(self, client: Client) -> bool:
        """Let somebody join; tell whether they are new."""
        is_new = client.envelope.session_id not in self._told
        if is_new:
            self._told[client.envelope.session_id] = -1
            self.sessions += 1
        self._tokens.add(client.envelope.token)
        token, known = client.envelope.token, {one.envelope.token for one in (self.client, *self._successors)}
        if token is not None and token not in known | self._refused:
            self._successors.append(client)
        return is_new

    def knows(self, session_id: str) -> bool:
        """Tell whether a session has joined."""
        return session_id in self._told

    def has_admitted(self, token: Token | None) -> bool:
        """Tell whether somebody with this token has joined: who was let in stays in, however long it takes."""
        return token in self._tokens

    def is_owner(self, client: Client) -> bool:
        """Tell whether somebody is the one with whose session the dispatcher is asked; without one, nobody else is."""
        here, owner = client.envelope, self.client.envelope
        named = here.session_id not in _ANONYMOUS
        return client is self.client or (named and (here.session_id, here.token) == (owner.session_id, owner.token))

    def name_for(self, envelope: Envelope, *, otherwise: str) -> str:
        """Name the job to somebody, always the same: as they know it, as others do, as the dispatcher does."""
        if envelope.job_id:
            return envelope.job_id
        self.job_id = self.job_id or self.job.job_id or otherwise
        return self.job_id

    def take_original(self, client: Client) -> Answer | None:
        """Give the dispatcher's own answer: once, and only to whom it is for."""
        if self.outcome is None or self.outcome.answer is None or not self.is_owner(client):
            return None
        answer = self.outcome.answer
        self.outcome = replace(self.outcome, answer=None)
        return answer

    def succeed(self) -> bool:
        """Have another token take over; say whether there is one."""
        self._refused.add(self.client.envelope.token)
        if not self._successors:
            return False
        self.client = self._successors.popleft()
        return True

    def changed(self) -> None:
        """Tell all who wait that there is something new."""
        self._version += 1
        self._news.set()
        self._news = asyncio.Event()

    async def news(self, session_id: str, patience: float) -> None:
        """Wait until a session can be told something new, at most `patience` s."""
        known = self._told.get(session_id, -1)
        await self._wait(session_id, patience, lambda: self._version > known)

    async def begun(self, session_id: str, patience: float, *, or_troubled: bool = False) -> None:
        """Wait until a first word can be said of the job, or the dispatcher is in trouble, at most `patience` s.

        The first word is the dispatcher's, or that the job waits for a place.
        """

        def is_over() -> bool:
            return self.is_queued or self.job.state is not State.NEW or (or_troubled and self.job.troubles > 0)

        await self._wait(session_id, patience, is_over)

    async def _wait(self, session_id: str, patience: float, is_over: Callable[[], bool]) -> None:
        self._waiting += 1
        self._watched.set()
        try:
            async with asyncio.timeout(patience):
                while not (self.closing or self.outcome or is_over()):
                    await self._news.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1
            self._last_seen = self._clock()
            self._told[session_id] = self._version

    async def until_watched(self) -> None:
        """Wait until somebody waits for the job."""
        self._watched.clear()
        if self._waiting:
            return
        await self._watched.wait()


_ANONYMOUS: Final = frozenset({"", "new"})
"""What stands where a client has no session: dispatchers make one."""

Group: TypeAlias = tuple[str, ...]
"""Whose question it is: the key, and whoever else must not be given the answer with others."""


@dataclass(slots=True)
class _Conducted:
    running: RunningJob
    task: asyncio.Task[None] = field(repr=False)


class InFlight:
    """The jobs that run; `clock` gives s since 1970 (UTC)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.turn = 0
        """Counts the jobs that have ended."""
        self._running: dict[Group, _Conducted] = {}
        self._ended: TTLCache[Group, RunningJob] = TTLCache(MOST_ENDED, ttl=ENDED_FOR, timer=clock)
        self._closing = False

    def __iter__(self) -> Iterator[RunningJob]:
        """Give the jobs that run, the oldest first."""
        return iter([one.running for one in self._running.values()])

    def of(self, group: Group) -> RunningJob | None:
        """Give the job that runs for a group."""
        conducted = self._running.get(group)
        return conducted.running if conducted else None

    def ended(self, group: Group, session_id: str) -> RunningJob | None:
        """Give the job that has just ended, to a session that had joined it."""
        running = self._ended.get(group)
        return running if running and running.knows(session_id) else None

    def ended_since(self, group: Group, turn: int) -> RunningJob | None:
        """Give the last job that ended, where that was after a turn."""
        running = self._ended.get(group)
        return running if running and running.turn > turn else None

    def begin(self, group: Group, running: RunningJob, conduct: Callable[[], Awaitable[Outcome]]) -> None:
        """Begin a job, which from now on goes on by itself, whoever goes away."""
        running.admit(running.client)
        running.closing = self._closing
        self._running[group] = _Conducted(running, asyncio.create_task(self._see_through(group, running, conduct)))

    async def _see_through(self, group: Group, running: RunningJob, conduct: Callable[[], Awaitable[Outcome]]) -> None:
        """Conduct a job to its end, and remember that for a while."""
        try:
            running.outcome = await conduct()
        except OdaProxyError as error:
            running.outcome = Outcome(error=error)
        except Exception:  # noqa: BLE001 - a fault of ours, whatever it is, must not leave people waiting
            _log.exception("a job ended by a fault of this program")
            running.outcome = Outcome(error=OdaProxyError("the job ended by a fault of oda-proxy; its log says more"))
        finally:
            del self._running[group]
        self.turn += 1
        running.turn = self.turn
        self._ended[group] = running
        running.changed()
        for _, forgotten in self._ended.expire():
            await _dismiss(forgotten)

    async def close(self) -> None:
        """Let go of all jobs: who waits is told how things stand, and nothing more is asked."""
        self.wake()
        tasks = [one.task for one in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._running.clear()  # one that was only just begun has not seen that it is over
        for running in self._ended.values():
            await _dismiss(running)

    def wake(self) -> None:
        """Tell all who wait how things stand, from now on at once."""
        self._closing = True
        for one in self._running.values():
            one.running.closing = True
            one.running.changed()


async def _dismiss(running: RunningJob) -> None:
    """Let go of an answer that nobody has fetched."""
    if running.outcome and running.outcome.answer:
        await running.outcome.answer.close()
