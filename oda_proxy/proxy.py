"""The whole story: a question comes in, an answer goes out.

request -> where does it lead? -- elsewhere ------------> relayed as it is
              |-- description ---> asked for lately? ---> the same again, or relayed and remembered
              '-- run_analysis --> kept? ---------------> spliced for this asker
                                    '-> one job for all who ask, until it has ended: redacted, kept, spliced for each
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import string
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from cachetools import TTLCache

from oda_proxy import failures, headers, progress, routes
from oda_proxy.answer import OK, Answer, Read, age, failure, refusal
from oda_proxy.archive import Archive
from oda_proxy.audience import Sharing, Tokens
from oda_proxy.cache_status import CacheStatus
from oda_proxy.errors import BadQueryError, NotCachedError, OdaProxyError, StoreUnusableError, UpstreamUnreachableError
from oda_proxy.estimates import Estimates
from oda_proxy.faults import Faults
from oda_proxy.freshness import Freshness
from oda_proxy.inflight import Asker, InFlight, Outcome, Running
from oda_proxy.job import Job, Limits, State
from oda_proxy.mending import Mending
from oda_proxy.missing import NearMisses
from oda_proxy.multipart import MULTIPART, read_form
from oda_proxy.polling import MAX_KEPT, GivenUpError, Polling
from oda_proxy.query import Envelope, Query, fields, split, words
from oda_proxy.question import Question, Questions
from oda_proxy.recording import splice
from oda_proxy.relay import Relay
from oda_proxy.remarks import remark
from oda_proxy.remembered import Remembered
from oda_proxy.replaying import replay
from oda_proxy.routes import Kind, Route
from oda_proxy.spool import spooled
from oda_proxy.unfinished import Notes
from oda_proxy.upstream.base import Ask
from oda_proxy.witness import Nobody

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from oda_proxy.cache_status import Forwarded
    from oda_proxy.descriptions import Descriptions
    from oda_proxy.inflight import Group
    from oda_proxy.key import Key
    from oda_proxy.missing import Missing
    from oda_proxy.recording import Recording
    from oda_proxy.store.base import Store
    from oda_proxy.unfinished import Unfinished
    from oda_proxy.upstream.base import Upstream
    from oda_proxy.witness import Witness

DESCRIPTION_PATIENCE = 15.0
"""Seconds that a dispatcher has to describe an instrument: clients wait for that before each query."""
MOST_APART, APART_FOR = 4096, 3600.0
"""Questions of which it is remembered that their answers cannot be shared, and for how long, in s."""


def new_session() -> str:
    """Make a session for a job that has lost its own, in the form that clients use."""
    return "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(16))


@dataclass(frozen=True, slots=True)
class Policy:
    """What houses decide differently; a description is remembered for `description_ttl` s."""

    opened: frozenset[str] = frozenset()
    """Closed routes that are open."""
    description_ttl: float = 300.0
    freshness: Freshness = field(default_factory=Freshness)
    patience: float = 20.0
    """Seconds for which a request is held where there is nothing new to tell: clients give up after 120."""
    max_jobs: int = 32
    """Jobs that the dispatcher works on at once."""
    limits: Limits = field(default_factory=Limits)
    time_scale: float = 0.0
    """How long recorded jobs take where nobody is asked: 1 as recorded, 0 no time."""


@dataclass(slots=True)
class Counts:
    """What became of the requests for `run_analysis` since the start."""

    hits: int = 0
    asked: int = 0
    failed: int = 0
    kept: int = 0
    jobs: int = 0
    """Jobs that were begun."""
    joined: int = 0
    """Requests that were told of a job that somebody else had begun."""
    echo_differs: int = 0
    """Answers that were not to the question, by what the dispatcher said of it."""
    job_ids_shared: int = 0
    """Times that one id of the dispatcher stood for another query than before."""
    unsafe: dict[str, int] = field(default_factory=dict)
    """Answers that would have a client load what is not on the allow-list, by its name."""


class Proxy:
    """Answers requests from a store and an upstream; without an upstream it is offline."""

    def __init__(
        self,
        store: Store,
        upstream: Upstream | None,
        policy: Policy,
        *,
        instruments: Descriptions | None = None,
        tokens: Tokens | None = None,
        remembered: Remembered | None = None,
        witness: Witness | None = None,
        missing: Missing | None = None,
        clock: Callable[[], float] = time.time,
        notes: Notes | None = None,
        new_session: Callable[[], str] = new_session,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take what it stands on; `clock` gives s since 1970 (UTC). Without descriptions words are only words."""
        self.store = store
        self.upstream = upstream
        self.store_faults = Faults(clock)
        self._policy = policy
        self._clock = clock
        self._sleep = sleep
        self._mending = Mending()
        self._relay = Relay(upstream)
        self._questions = Questions(instruments)
        self._tokens = tokens or Tokens(Sharing.SUBJECT, secret_key=None, trust=0.0, clock=clock)
        self._remembered = remembered or Remembered(policy.description_ttl, clock)
        self._archive = Archive(store, self.store_faults, self._questions, clock)
        self._missing: Missing = missing or NearMisses(store, clock=clock)
        self._witness: Witness = witness or Nobody()
        self._notes = notes or Notes(None)
        self._new_session = new_session
        self._estimates = Estimates()
        self._replayed: set[Key] = set()
        self._polling = Polling(
            self._relay,
            self._mending,
            self._archive,
            self._tokens,
            notes=self._notes,
            at_once=policy.max_jobs,
            limits=policy.limits,
            clock=clock,
            sleep=sleep,
        )
        self._inflight = InFlight(clock)
        self._apart: TTLCache[Key, None] = TTLCache(MOST_APART, ttl=APART_FOR, timer=clock)
        self._counts = Counts(unsafe=self._mending.refused)

    @property
    def counts(self) -> Counts:
        """What became of the requests since the start."""
        return replace(
            self._counts, echo_differs=self._archive.echo_differs, job_ids_shared=self._archive.job_ids_shared
        )

    @property
    def jobs(self) -> Iterator[Running]:
        """The jobs that run, the oldest first."""
        return iter(self._inflight)

    async def resume(self) -> None:
        """Take up the jobs that an earlier run left, and learn how long jobs take."""
        for job in await self._notes.left():
            question = await self._questions.read(job.query)
            if self._clock() - job.begun > self._policy.limits.longest:
                await self._notes.forget(job.key)
                continue
            if job.private or self.upstream is None or self._inflight.of((question.key,)):
                continue  # a private one waits for somebody with a token
            asker = _for_nobody(job, self._new_session())
            running = Running(question, asker, begun=job.begun, clock=self._clock)
            running.resumed, running.job = True, replace(running.job, state=State.SUBMITTED, job_id=job.job_id)
            self._inflight.begin((question.key,), running, partial(self._conduct, running))
        try:
            await asyncio.to_thread(lambda: self._estimates.learn(self.store.entries()))
        except StoreUnusableError as error:
            self.store_faults.failed("read", error)

    def remark_on(self, running: Running, asker: Asker) -> str:
        """Say how a job stands for one of those who wait."""
        queued = [one for one in self._inflight if one.is_queued]
        before = queued.index(running) if running in queued else 0
        estimate = self._estimates.of(running.question.query)
        return remark(running, asker, estimate, before=before, now=self._clock())

    def wake(self) -> None:
        """Answer all who wait, from now on at once: the end is near."""
        self._inflight.wake()

    async def close(self) -> None:
        """Let go of the jobs that run."""
        await self._inflight.close()

    async def answer(self, ask: Ask, *, origin: str) -> Answer:
        """Answer one request, whatever it is; `origin` is our scheme, host and port as the client knows them."""
        try:
            route = routes.find(ask.path, opened=self._policy.opened)
            ask, here = replace(ask, path=route.path), origin + route.prefix
            if route.kind is Kind.ANALYSIS and ask.method in {"GET", "POST"}:
                return await self._analysis(ask, here)
            if route.kind in {Kind.DESCRIPTION, Kind.INSTRUMENTS} and ask.method == "GET":
                return await self._description(ask, route, here)
            return await self._relay.ask(ask, here, "bypass")
        except OdaProxyError as error:
            return refusal(error)

    async def _analysis(self, ask: Ask, here: str) -> Answer:
        """Answer `run_analysis`."""
        try:
            query, envelope = split(*_fields(ask))
        except BadQueryError:  # the dispatcher has its own words for it
            self._counts.asked += 1
            return await self._asked(ask, here, "bypass", _api_client(ask), detail="not-a-query")
        try:
            answer = await self._product(query, envelope, ask, here)
        except OdaProxyError as error:
            self._counts.failed += 1
            return failure(error, envelope)
        self._counts.hits += answer.cache_status.hit
        self._counts.joined += answer.cache_status.collapsed
        self._counts.asked += not (answer.cache_status.hit or answer.cache_status.collapsed)
        return answer

    async def _product(self, query: Query, envelope: Envelope, ask: Ask, here: str) -> Answer:
        """Answer a query from its recording, or from the one job that makes it."""
        if reason := _not_ours(query, ask):
            return await self._asked(ask, here, "bypass", envelope if query.api else None, detail=reason)
        if (audience := self._audience(envelope)) is None:
            return await self._asked(ask, here, "bypass", envelope, detail="token")
        question = await self._questions.read(query, audience=audience)
        asker = Asker(_uncompressed(ask), envelope, here)
        if not envelope.awaits_products:
            return await self._polled(question, asker)
        return await self._wanted(question, asker)

    async def _wanted(self, question: Question, asker: Asker) -> Answer:
        """Answer from a recording, where there is one and the asker wants none that is made anew."""
        envelope, wishes = asker.envelope, headers.directives(asker.ask.headers)
        anew = envelope.query_status != "new" or envelope.job_id != "" or bool(wishes & {"no-cache", "no-store"})
        anew = anew or not self._tokens.verified(envelope.token)
        turn = self._inflight.turn
        recording = None if anew else await self._archive.look_up(question)
        if recording and self._is_good(recording):
            return await self._recorded(recording, question, asker)
        if "only-if-cached" in wishes:
            raise NotCachedError
        if self.upstream is None:
            return await self._missed(question, envelope)
        if "no-store" in wishes:
            return await self._asked(asker.ask, asker.here, "request", envelope, detail="no-store")
        if headers.media_type(asker.ask.headers) == MULTIPART:
            return await self._asked_with_files(question, asker)
        try:
            forwarded: Forwarded = "request" if anew else "stale" if recording else "uri-miss"
            return await self._joined(question, asker, forwarded, since=turn)
        except UpstreamUnreachableError:
            if recording and (recording := await self._archive.look_up(question)):
                return await self._hit(recording, asker, CacheStatus(hit=True, detail="stale"))  # RFC 5861
            raise

    def _audience(self, envelope: Envelope) -> str | None:
        """Name whom the answer is for, as the asker claims; None where the token says nothing that we understand."""
        if self.upstream is None:
            self._tokens.refuse(envelope.token)  # elsewhere the dispatcher does
        return self._tokens.audience(envelope.token)

    def _is_good(self, recording: Recording) -> bool:
        """Tell whether a recording may be given today; one that may not lets go of its file."""
        if self.upstream is None or self._policy.freshness.is_fresh(recording, self._clock()):
            return True
        recording.head.close()
        return False

    async def _joined(
        self, question: Question, asker: Asker, forwarded: Forwarded, *, since: int | None = None
    ) -> Answer:
        """Answer from the job for a question, which begins where none runs; wait for the dispatcher's first word.

        One that ended while its recording was looked for (`since` that turn) was missed by a moment.
        """
        running = self._running(question, asker.envelope)
        if running is None and since is not None:
            groups = self._groups(question, asker.envelope)
            running = next(filter(None, (self._inflight.ended_since(group, since) for group in groups)), None)
        collapsed = running is not None
        if running is None:
            running = Running(question, asker, begun=self._clock(), clock=self._clock, forwarded=forwarded)
            self._inflight.begin(self._groups(question, asker.envelope)[-1], running, partial(self._conduct, running))
            self._counts.jobs += 1
        running.admit(asker)
        await running.begun(asker.envelope.session_id, self._policy.patience)
        return await self._told(running, asker, CacheStatus(forwarded=forwarded, collapsed=collapsed))

    async def _polled(self, question: Question, asker: Asker) -> Answer:
        """Tell how a job stands, as soon as there is something new; a job that we do not know is the dispatcher's."""
        envelope = asker.envelope
        if running := self._running(question, envelope) or self._ended(question, envelope):
            running.admit(asker)
            await running.news(envelope.session_id, self._policy.patience)
            collapsed = not running.is_owner(asker)
            return await self._told(running, asker, CacheStatus(forwarded="uri-miss", collapsed=collapsed))
        if self._tokens.verified(envelope.token) and (recording := await self._archive.look_up(question)):
            return await self._hit(recording, asker, CacheStatus(hit=True))
        if self.upstream is None:
            return await self._missed(question, envelope)
        if envelope.job_id == _own_job_id(question):  # told by an earlier run of this program
            return await self._joined(question, asker, "uri-miss")
        return await self._asked(asker.ask, asker.here, "bypass", envelope, detail="poll")

    def _groups(self, question: Question, envelope: Envelope) -> list[Group]:
        """Say with whom an asker may share a job, from the smallest group to that which a job of theirs is for."""
        with_all, alone = (question.key,), (question.key, "session", envelope.session_id)
        if question.key in self._apart:
            return [alone]
        if envelope.token is None:
            return [alone, with_all]
        with_this_token = (question.key, "token", hashlib.sha256(envelope.token.text.encode()).hexdigest())
        if self._tokens.verified(envelope.token):
            return [alone, with_this_token, with_all]
        return [alone, with_this_token]  # nobody has verified it: it is good for what itself began

    def _running(self, question: Question, envelope: Envelope) -> Running | None:
        found = (self._inflight.of(group) for group in self._groups(question, envelope))
        if running := next(filter(None, found), None):
            return running
        running = self._inflight.of((question.key,))
        return running if running and running.has_admitted(envelope.token) else None

    def _ended(self, question: Question, envelope: Envelope) -> Running | None:
        found = (self._inflight.ended(group, envelope.session_id) for group in self._groups(question, envelope))
        return next(filter(None, found), None)

    async def _conduct(self, running: Running) -> Outcome:
        """See a job to its end, and let the witness see it, too."""
        outcome = await self._polling.conduct(running)
        await self._notes.forget(running.question.key)
        if outcome.stored and outcome.recording:
            self._counts.kept += 1
            if not outcome.recording.private:
                self._estimates.note(outcome.recording.query, outcome.recording.cost)
            await self._witness.kept(outcome.recording)
            return replace(outcome, recording=None)  # the store has it
        if outcome.answer and outcome.failure:
            await self._witness.failed(running.question, running.asker.envelope, outcome.answer)
        return outcome

    async def _told(self, running: Running, asker: Asker, status: CacheStatus) -> Answer:
        """Tell one of those who wait for a job how it stands, or give them its end."""
        outcome, envelope = running.outcome, asker.envelope
        job_id = running.name_for(envelope, otherwise=_own_job_id(running.question))
        if outcome is None:
            text = progress.running(
                running.status,
                envelope,
                job_id=job_id,
                reports=running.reports,
                comment=self.remark_on(running, asker),
                now=self._clock(),
            )
            return _own(OK, text, replace(status, detail="running"))
        if answer := running.take_original(asker):
            if running.job.job_id not in {"", job_id}:
                answer = await self._mending.renamed(answer, job_id)
            return await self._mending.formed(answer, envelope)
        envelope = replace(envelope, job_id=job_id)
        if outcome.error:  # the job has ended: 502 would have a client ask for it for half an hour
            raise outcome.error if asker.envelope.awaits_products else GivenUpError(str(outcome.error))
        if outcome.failure:
            text = failures.answered(outcome.failure, envelope, now=self._clock(), address=asker.here)
            return _own(outcome.failure.status, text, replace(status, detail="failed"))
        recording = outcome.recording or (await self._archive.get(running.question.key) if outcome.stored else None)
        if recording:
            return await self._hit(recording, replace(asker, envelope=envelope), status)
        if not outcome.is_done:
            raise GivenUpError("the job failed, and what the dispatcher says of it names another asker; ask again")
        if not outcome.stored:  # else it has just been given up for lack of space
            self._apart[running.question.key] = None
        return await self._joined(running.question, replace(asker, envelope=envelope), "uri-miss")

    async def _recorded(self, recording: Recording, question: Question, asker: Asker) -> Answer:
        """Answer from a recording, the first time after as long as the job took where that is wanted."""
        await self._witness.given(recording)
        status, scale = CacheStatus(hit=True), self._policy.time_scale
        if self.upstream or scale == 0 or not recording.timeline or recording.key in self._replayed:
            return await self._hit(recording, asker, status)
        recording.head.close()
        if (running := self._inflight.of((question.key,))) is None:
            running = Running(question, asker, begun=self._clock(), clock=self._clock)
            self._inflight.begin((question.key,), running, partial(self._replay, running, recording))
        running.admit(asker)
        await running.begun(asker.envelope.session_id, self._policy.patience)
        return await self._told(running, asker, status)

    async def _replay(self, running: Running, recording: Recording) -> Outcome:
        """Take the time that a job took."""
        await replay(running, recording.timeline, scale=self._policy.time_scale, sleep=self._sleep)
        self._replayed.add(recording.key)
        return Outcome(is_done=True, stored=True)

    async def _hit(self, recording: Recording, asker: Asker, status: CacheStatus) -> Answer:
        """Answer from a recording."""
        now = self._clock()
        spliced = splice(recording, asker.envelope, now=now, address=asker.here)
        told = (("Content-Type", "application/json"), ("Content-Length", str(spliced.size)))
        return Answer(OK, (*told, age(recording.stored_at, now)), Read(spliced, recording.head.close), status)

    async def _missed(self, question: Question, envelope: Envelope) -> Answer:
        """Answer what was not recorded, where there is nobody to ask."""
        try:
            return await self._missing.answer(question, envelope)
        except OdaProxyError as error:
            await self._witness.missed(question, str(error))
            raise

    async def _asked(
        self, ask: Ask, here: str, forwarded: Forwarded, client: Envelope | None, *, detail: str
    ) -> Answer:
        """Ask for what is not to be kept; what goes to an API client is repaired, other answers stay as they are."""
        if client is None:
            return await self._relay.ask(ask, here, forwarded, detail=detail)
        reply = await self._relay.ask(_uncompressed(ask), here, forwarded, detail=detail)
        answer = await spooled(reply, MAX_KEPT, in_memory=_in_memory(client))
        return await self._mending.formed(await self._mending.repaired(answer, client), client)

    async def _asked_with_files(self, question: Question, asker: Asker) -> Answer:
        """Ask with files that are uploaded, which belong to the request: its job is the client's."""
        job = Job(self._clock())
        reply = await self._relay.ask(asker.ask, asker.here, "uri-miss")
        answer = await spooled(reply, MAX_KEPT, in_memory=_in_memory(asker.envelope))
        if answer.status == OK:
            self._tokens.vouch(asker.envelope.token)
        answer = await self._mending.repaired(answer, asker.envelope)
        kept = await self._archive.keep(answer, question, asker.envelope, job)
        self._counts.kept += kept.stored
        status = replace(answer.cache_status, stored=kept.stored, detail=kept.detail)
        return await self._mending.formed(replace(answer, cache_status=status), asker.envelope)

    async def _description(self, ask: Ask, route: Route, here: str) -> Answer:
        """Answer what describes instruments and products: it changes seldom, and clients ask before each query."""
        relay = self._relay.ask_for_instruments if route.kind is Kind.INSTRUMENTS else self._relay.ask
        pairs, asked = fields(ask.query_string), replace(_uncompressed(ask), patience=DESCRIPTION_PATIENCE)
        if _has_credentials(ask) or any(name == "token" for name, _ in pairs):
            return await self._mending.described(await relay(asked, here, "bypass", detail="token"))

        async def describe(forwarded: Forwarded) -> Answer:
            return await self._mending.described(await relay(asked, here, forwarded))

        return await self._remembered.answer(
            (route.path, *(f"{name}={value}" for name, value in sorted(pairs))),
            describe,
            anew=bool(headers.directives(ask.headers) & {"no-cache", "no-store"}),
        )


FORM = "application/x-www-form-urlencoded"


def _fields(ask: Ask) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Give what a request asks: its fields, and the digests of the files it uploads."""
    if ask.body is None:
        return fields(ask.query_string), []
    if isinstance(ask.body, bytes) and headers.media_type(ask.headers) == FORM:
        return fields(ask.query_string, ask.body), []
    if isinstance(ask.body, bytes) and headers.media_type(ask.headers) == MULTIPART:
        sent, files = read_form(headers.values(ask.headers, "content-type")[0], ask.body)
        return [*fields(ask.query_string), *sent], files
    raise BadQueryError("the body of the request is no form, or too large to be read")


def _api_client(ask: Ask) -> Envelope | None:
    """Tell who sent a request that is no query; None where that is no API client, or cannot be told."""
    try:
        sent = dict(_fields(ask)[0])
    except BadQueryError:
        return None
    return Envelope("", sent.get("session_id", ""), sent.get("job_id", "")) if "api" in sent else None


def _not_ours(query: Query, ask: Ask) -> str:
    """Say why a request is not answered from recordings and its answer not kept, or nothing where both may be."""
    if _has_credentials(ask):
        return "credentials"
    if not query.api:
        return "not-api"  # pages for the web frontend name files that belong to one session
    return "partial" if query.partial else ""


def _for_nobody(job: Unfinished, session_id: str) -> Asker:
    """Ask for a job that was begun by somebody who is not known any more."""
    others = {"oda_api_version": job.version} if job.version else {}
    sent = {"query_status": "new", "session_id": session_id, **others}
    form = urlencode([*words(job.query), *sent.items()], errors="surrogateescape").encode("ascii")
    ask = Ask("POST", "/run_analysis", headers=(("Content-Type", FORM), ("Accept-Encoding", "identity")), body=form)
    return Asker(ask, Envelope(session_id=session_id, others=others), "")


def _own_job_id(question: Question) -> str:
    """Name a job that the dispatcher has not named yet."""
    return question.key[:16]


def _has_credentials(ask: Ask) -> bool:
    """Tell whether the headers say who asks: the answer may then be theirs alone (RFC 9111, section 3.5)."""
    return bool(headers.values(ask.headers, "authorization") or headers.values(ask.headers, "cookie"))


def _uncompressed(ask: Ask) -> Ask:
    """Ask for a body that we can read."""
    others = tuple((name, value) for name, value in ask.headers if name.casefold() != "accept-encoding")
    return replace(ask, headers=(*others, ("Accept-Encoding", "identity")))


def _in_memory(envelope: Envelope) -> int | None:
    """Say how many bytes of an answer stay in memory: all that may be kept where it repeats a token."""
    return MAX_KEPT if envelope.token is not None else None


def _own(status: int, text: bytes, cache_status: CacheStatus) -> Answer:
    told = (("Content-Type", "application/json"), ("Content-Length", str(len(text))))
    return Answer(status, told, (text,), cache_status)
