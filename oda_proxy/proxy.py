"""The whole story: a question comes in, an answer goes out.

request -> where does it lead? -- elsewhere ------------> relayed as it is
              |-- description ---> asked for lately? ---> the same again, or relayed and remembered
              '-- run_analysis --> kept? ---------------> spliced for this asker
                                    '-> one job for all who ask, until it has ended: redacted, kept, spliced for each
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from oda_proxy.compat.failure_answers import failure
from oda_proxy.compat.pipeline import Mending
from oda_proxy.errors import BadQueryError, NotCachedError, OdaProxyError, StoreUnusableError, UpstreamUnreachableError
from oda_proxy.http import headers, routes
from oda_proxy.http.answer import OK, Answer, refusal
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.routes import Kind
from oda_proxy.http.spool import spooled
from oda_proxy.jobs.coalescing import Jobs, new_session, own_job_id
from oda_proxy.jobs.inflight import Asker
from oda_proxy.jobs.job import Job
from oda_proxy.jobs.journal import Notes
from oda_proxy.jobs.observer import Nobody
from oda_proxy.jobs.policy import Counts, Policy
from oda_proxy.jobs.polling import MAX_KEPT, Polling
from oda_proxy.query import request
from oda_proxy.query.audience import Sharing, Tokens
from oda_proxy.query.query import fields, split
from oda_proxy.query.resolved import Questions
from oda_proxy.store.faults import Faults
from oda_proxy.store.near_misses import NearMisses
from oda_proxy.store.recording_cache import Archive, given
from oda_proxy.upstream.description_cache import Remembered
from oda_proxy.upstream.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from oda_proxy.http.cache_status import Forwarded
    from oda_proxy.http.message import Ask, Upstream
    from oda_proxy.http.routes import Route
    from oda_proxy.jobs.observer import Witness
    from oda_proxy.query.descriptions import Descriptions
    from oda_proxy.query.query import Envelope, Query
    from oda_proxy.query.resolved import Question
    from oda_proxy.recording.recording import Recording
    from oda_proxy.store.base import Store
    from oda_proxy.store.near_misses import Missing

__all__ = ["Counts", "Policy", "Proxy"]

MOST_LEARNT, LEARNT_AT_ONCE = 20_000, 500
"""Recordings from which it is learnt how long jobs take, and how many are read in one go."""
DESCRIPTION_PATIENCE = 15.0
"""Seconds that a dispatcher has to describe an instrument: clients wait for that before each query."""


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
        self._mending = Mending()
        self._relay = Relay(upstream)
        self._questions = Questions(instruments)
        self._tokens = tokens or Tokens(Sharing.SUBJECT, secret_key=None, trust=0.0, clock=clock)
        self._remembered = remembered or Remembered(policy.description_ttl, clock)
        self._archive = Archive(store, self.store_faults, self._questions, clock)
        self._missing: Missing = missing or NearMisses(store, clock=clock)
        self._witness: Witness = witness or Nobody()
        notes = notes or Notes(None)
        polling = Polling(
            self._relay,
            self._mending,
            self._archive,
            self._tokens,
            notes=notes,
            at_once=policy.max_jobs,
            limits=policy.limits,
            clock=clock,
            sleep=sleep,
        )
        self._counts = Counts(unsafe=self._mending.refused)
        self.jobs = Jobs(
            polling=polling,
            archive=self._archive,
            mending=self._mending,
            tokens=self._tokens,
            notes=notes,
            witness=self._witness,
            policy=policy,
            counts=self._counts,
            clock=clock,
            sleep=sleep,
            new_session=new_session,
        )

    @property
    def counts(self) -> Counts:
        """What became of the requests since the start."""
        return replace(
            self._counts, echo_differs=self._archive.echo_differs, job_ids_shared=self._archive.job_ids_shared
        )

    async def resume(self) -> None:
        """Take up the jobs that an earlier run left."""
        if self.upstream:
            await self.jobs.resume(self._questions)

    async def learn(self) -> None:
        """Learn from the recordings how long jobs take, a few at a time: requests are answered meanwhile."""
        try:
            keys = await asyncio.to_thread(lambda: list(islice(self.store.keys(), MOST_LEARNT)))
            for at in range(0, len(keys), LEARNT_AT_ONCE):
                some = keys[at : at + LEARNT_AT_ONCE]
                entries = await asyncio.to_thread(list, map(self.store.entry, some))
                self.jobs.estimates.learn(filter(None, entries))
        except StoreUnusableError as error:
            self.store_faults.failed("read", error)

    async def close(self) -> None:
        """Let go of the jobs that run."""
        await self.jobs.close()

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
            query, envelope = split(*request.read(ask))
        except BadQueryError:  # the dispatcher has its own words for it
            self._counts.asked += 1
            return await self._asked(ask, here, "bypass", request.api_client(ask), detail="not-a-query")
        try:
            answer = await self._product(query, envelope, ask, here)
        except OdaProxyError as error:
            self._counts.failed += 1
            return failure(error, envelope)
        self._counts.hits += answer.cache_status.hit
        self._counts.asked += not (answer.cache_status.hit or answer.cache_status.collapsed)
        return answer

    async def _product(self, query: Query, envelope: Envelope, ask: Ask, here: str) -> Answer:
        """Answer a query from its recording, or from the one job that makes it."""
        if reason := request.not_ours(query, ask):
            return await self._asked(ask, here, "bypass", envelope if query.api else None, detail=reason)
        if (audience := self._audience(envelope)) is None:
            return await self._asked(ask, here, "bypass", envelope, detail="token")
        question = await self._questions.read(query, audience=audience)
        asker = Asker(request.uncompressed(ask), envelope, here)
        if not envelope.awaits_products:
            return await self._polled(question, asker)
        return await self._wanted(question, asker)

    async def _wanted(self, question: Question, asker: Asker) -> Answer:
        """Answer from a recording, where there is one and the asker wants none that is made anew."""
        envelope, wishes = asker.envelope, headers.directives(asker.ask.headers)
        anew = envelope.query_status != "new" or envelope.job_id != "" or bool(wishes & {"no-cache", "no-store"})
        anew = anew or not self._tokens.verified(envelope.token)
        turn = self.jobs.turn
        recording = None if anew else await self._archive.look_up(question)
        if recording and self._is_good(recording):
            return await self._recorded(recording, question, asker)
        if "only-if-cached" in wishes:
            raise NotCachedError
        if self.upstream is None:
            return await self._missed(question, envelope)
        if "no-store" in wishes:
            return await self._asked(asker.ask, asker.here, "request", envelope, detail="no-store")
        if request.has_files(asker.ask):
            return await self._asked_with_files(question, asker)
        try:
            forwarded: Forwarded = "request" if anew else "stale" if recording else "uri-miss"
            return await self.jobs.joined(question, asker, forwarded, since=turn, has_other=recording is not None)
        except UpstreamUnreachableError:
            if recording and (recording := await self._archive.look_up(question)):
                return self._hit(recording, asker, CacheStatus(hit=True, detail="stale"))  # RFC 5861
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

    async def _polled(self, question: Question, asker: Asker) -> Answer:
        """Tell how a job stands, as soon as there is something new; a job that we do not know is the dispatcher's."""
        envelope = asker.envelope
        if answer := await self.jobs.followed(question, asker):
            return answer
        if self._tokens.verified(envelope.token) and (recording := await self._archive.look_up(question)):
            return self._hit(recording, asker, CacheStatus(hit=True))
        if self.upstream is None:
            return await self._missed(question, envelope)
        if envelope.job_id == own_job_id(question):  # told by an earlier run of this program
            return await self.jobs.joined(question, asker, "uri-miss")
        return await self._asked(asker.ask, asker.here, "bypass", envelope, detail="poll")

    async def _recorded(self, recording: Recording, question: Question, asker: Asker) -> Answer:
        """Answer from a recording; a replay may take the time that its job took."""
        await self._witness.given(recording)
        replayed = await self.jobs.replayed(question, asker, recording) if self.upstream is None else None
        return replayed or self._hit(recording, asker, CacheStatus(hit=True))

    def _hit(self, recording: Recording, asker: Asker, status: CacheStatus) -> Answer:
        return given(recording, asker.envelope, asker.here, now=self._clock(), status=status)

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
        reply = await self._relay.ask(request.uncompressed(ask), here, forwarded, detail=detail)
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
        pairs, asked = fields(ask.query_string), replace(request.uncompressed(ask), patience=DESCRIPTION_PATIENCE)
        if request.has_credentials(ask) or any(name == "token" for name, _ in pairs):
            return await self._mending.described(await relay(asked, here, "bypass", detail="token"))

        async def describe(forwarded: Forwarded) -> Answer:
            return await self._mending.described(await relay(asked, here, forwarded))

        return await self._remembered.answer(
            (route.path, *(f"{name}={value}" for name, value in sorted(pairs))),
            describe,
            anew=bool(headers.directives(ask.headers) & {"no-cache", "no-store"}),
        )


def _in_memory(envelope: Envelope) -> int | None:
    """Say how many bytes of an answer stay in memory: all that may be kept where it repeats a token."""
    return MAX_KEPT if envelope.token is not None else None
