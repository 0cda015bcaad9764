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

from oda_proxy.compat.failure_answers import failure_answer
from oda_proxy.compat.pipeline import RepairPipeline
from oda_proxy.errors import BadQueryError, NotCachedError, OdaProxyError, StoreUnusableError, UpstreamUnreachableError
from oda_proxy.http import headers, routes
from oda_proxy.http.answer import OK, Answer, text_error
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.routes import Kind
from oda_proxy.http.spool import spooled
from oda_proxy.jobs.coalescing import Jobs, new_session, own_job_id
from oda_proxy.jobs.inflight import Client
from oda_proxy.jobs.job import Job
from oda_proxy.jobs.journal import JobJournal
from oda_proxy.jobs.observer import NullObserver
from oda_proxy.jobs.policy import Counts, Policy
from oda_proxy.jobs.polling import MAX_KEPT, Polling
from oda_proxy.query import analysis_request
from oda_proxy.query.audience import Sharing, TokenVerifier
from oda_proxy.query.query import parse_fields, split_query
from oda_proxy.query.resolved import QueryResolver
from oda_proxy.store.faults import StoreFaults
from oda_proxy.store.near_misses import NearMissHandler
from oda_proxy.store.recording_cache import RecordingCache, answer_from
from oda_proxy.upstream.description_cache import DescriptionCache
from oda_proxy.upstream.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from oda_proxy.http.cache_status import Forwarded
    from oda_proxy.http.message import Request, Upstream
    from oda_proxy.http.routes import Route
    from oda_proxy.jobs.observer import QueryObserver
    from oda_proxy.query.descriptions import Descriptions
    from oda_proxy.query.query import Envelope, Query
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Store
    from oda_proxy.store.near_misses import MissHandler

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
        tokens: TokenVerifier | None = None,
        description_cache: DescriptionCache | None = None,
        observer: QueryObserver | None = None,
        missing: MissHandler | None = None,
        clock: Callable[[], float] = time.time,
        journal: JobJournal | None = None,
        new_session: Callable[[], str] = new_session,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take what it stands on; `clock` gives s since 1970 (UTC). Without descriptions words are only words."""
        self.store = store
        self.upstream = upstream
        self.store_faults = StoreFaults(clock)
        self._policy = policy
        self._clock = clock
        self._pipeline = RepairPipeline()
        self._relay = Relay(upstream)
        self._resolver = QueryResolver(instruments)
        self._tokens = tokens or TokenVerifier(Sharing.SUBJECT, secret_key=None, trust=0.0, clock=clock)
        self._descriptions = description_cache or DescriptionCache(policy.description_ttl, clock)
        self._cache = RecordingCache(store, self.store_faults, self._resolver, clock)
        self._miss_handler: MissHandler = missing or NearMissHandler(store, clock=clock)
        self._observer: QueryObserver = observer or NullObserver()
        journal = journal or JobJournal(None)
        polling = Polling(
            self._relay,
            self._pipeline,
            self._cache,
            self._tokens,
            journal=journal,
            at_once=policy.max_jobs,
            limits=policy.limits,
            clock=clock,
            sleep=sleep,
        )
        self._counts = Counts(unsafe=self._pipeline.refused)
        self.jobs = Jobs(
            polling=polling,
            cache=self._cache,
            pipeline=self._pipeline,
            tokens=self._tokens,
            journal=journal,
            observer=self._observer,
            policy=policy,
            counts=self._counts,
            clock=clock,
            sleep=sleep,
            new_session=new_session,
        )

    @property
    def counts(self) -> Counts:
        """What became of the requests since the start."""
        return replace(self._counts, echo_differs=self._cache.echo_differs, job_ids_shared=self._cache.job_ids_shared)

    async def resume(self) -> None:
        """Take up the jobs that an earlier run left."""
        if self.upstream:
            await self.jobs.resume(self._resolver)

    async def learn(self) -> None:
        """Learn from the recordings how long jobs take, a few at a time: requests are answered meanwhile."""
        try:
            keys = await asyncio.to_thread(lambda: list(islice(self.store.keys(), MOST_LEARNT)))
            for at in range(0, len(keys), LEARNT_AT_ONCE):
                some = keys[at : at + LEARNT_AT_ONCE]
                entries = await asyncio.to_thread(list, map(self.store.entry, some))
                self.jobs.estimates.learn(filter(None, entries))
        except StoreUnusableError as error:
            self.store_faults.note_failure("read", error)

    async def close(self) -> None:
        """Let go of the jobs that run."""
        await self.jobs.close()

    async def answer(self, request: Request, *, origin: str) -> Answer:
        """Answer one request, whatever it is; `origin` is our scheme, host and port as the client knows them."""
        try:
            route = routes.find(request.path, open_routes=self._policy.opened)
            request, here = replace(request, path=route.path), origin + route.prefix
            if route.kind is Kind.ANALYSIS and request.method in {"GET", "POST"}:
                return await self._analysis(request, here)
            if route.kind in {Kind.DESCRIPTION, Kind.INSTRUMENTS} and request.method == "GET":
                return await self._description(request, route, here)
            return await self._relay.send(request, here, "bypass")
        except OdaProxyError as error:
            return text_error(error)

    async def _analysis(self, request: Request, here: str) -> Answer:
        """Answer `run_analysis`."""
        try:
            query, envelope = split_query(*analysis_request.read_fields(request))
        except BadQueryError:  # the dispatcher has its own words for it
            self._counts.asked += 1
            return await self._asked(
                request, here, "bypass", analysis_request.api_envelope(request), detail="not-a-query"
            )
        try:
            answer = await self._product(query, envelope, request, here)
        except OdaProxyError as error:
            self._counts.failed += 1
            return failure_answer(error, envelope)
        self._counts.hits += answer.cache_status.hit
        self._counts.asked += not (answer.cache_status.hit or answer.cache_status.collapsed)
        return answer

    async def _product(self, query: Query, envelope: Envelope, request: Request, here: str) -> Answer:
        """Answer a query from its recording, or from the one job that makes it."""
        if reason := analysis_request.bypass_reason(query, request):
            return await self._asked(request, here, "bypass", envelope if query.api else None, detail=reason)
        if (audience := self._audience(envelope)) is None:
            return await self._asked(request, here, "bypass", envelope, detail="token")
        resolved = await self._resolver.resolve(query, audience=audience)
        client = Client(analysis_request.uncompressed(request), envelope, here)
        if not envelope.awaits_products:
            return await self._polled(resolved, client)
        return await self._wanted(resolved, client)

    async def _wanted(self, resolved: ResolvedQuery, client: Client) -> Answer:
        """Answer from a recording, where there is one and the asker wants none that is made anew."""
        envelope, wishes = client.envelope, headers.directives(client.request.headers)
        anew = envelope.query_status != "new" or envelope.job_id != "" or bool(wishes & {"no-cache", "no-store"})
        anew = anew or not self._tokens.is_verified(envelope.token)
        turn = self.jobs.turn
        recording = None if anew else await self._cache.look_up(resolved)
        if recording and self._is_good(recording):
            return await self._recorded(recording, resolved, client)
        if "only-if-cached" in wishes:
            raise NotCachedError
        if self.upstream is None:
            return await self._missed(resolved, envelope)
        if "no-store" in wishes:
            return await self._asked(client.request, client.here, "request", envelope, detail="no-store")
        if analysis_request.has_files(client.request):
            return await self._asked_with_files(resolved, client)
        try:
            forwarded: Forwarded = "request" if anew else "stale" if recording else "uri-miss"
            return await self.jobs.joined(resolved, client, forwarded, since=turn, has_other=recording is not None)
        except UpstreamUnreachableError:
            if recording and (recording := await self._cache.look_up(resolved)):
                return self._hit(recording, client, CacheStatus(hit=True, detail="stale"))  # RFC 5861
            raise

    def _audience(self, envelope: Envelope) -> str | None:
        """Name whom the answer is for, as the asker claims; None where the token says nothing that we understand."""
        if self.upstream is None:
            self._tokens.check(envelope.token)  # elsewhere the dispatcher does
        return self._tokens.audience(envelope.token)

    def _is_good(self, recording: Recording) -> bool:
        """Tell whether a recording may be given today; one that may not lets go of its file."""
        if self.upstream is None or self._policy.freshness.is_fresh(recording, self._clock()):
            return True
        recording.head.close()
        return False

    async def _polled(self, resolved: ResolvedQuery, client: Client) -> Answer:
        """Tell how a job stands, as soon as there is something new; a job that we do not know is the dispatcher's."""
        envelope = client.envelope
        if answer := await self.jobs.followed(resolved, client):
            return answer
        if self._tokens.is_verified(envelope.token) and (recording := await self._cache.look_up(resolved)):
            return self._hit(recording, client, CacheStatus(hit=True))
        if self.upstream is None:
            return await self._missed(resolved, envelope)
        if envelope.job_id == own_job_id(resolved):  # told by an earlier run of this program
            return await self.jobs.joined(resolved, client, "uri-miss")
        return await self._asked(client.request, client.here, "bypass", envelope, detail="poll")

    async def _recorded(self, recording: Recording, resolved: ResolvedQuery, client: Client) -> Answer:
        """Answer from a recording; a replay may take the time that its job took."""
        await self._observer.given(recording)
        replayed = await self.jobs.replayed(resolved, client, recording) if self.upstream is None else None
        return replayed or self._hit(recording, client, CacheStatus(hit=True))

    def _hit(self, recording: Recording, client: Client, status: CacheStatus) -> Answer:
        return answer_from(recording, client.envelope, client.here, now=self._clock(), status=status)

    async def _missed(self, resolved: ResolvedQuery, envelope: Envelope) -> Answer:
        """Answer what was not recorded, where there is nobody to ask."""
        try:
            return await self._miss_handler.answer(resolved, envelope)
        except OdaProxyError as error:
            await self._observer.missed(resolved, str(error))
            raise

    async def _asked(
        self, request: Request, here: str, forwarded: Forwarded, client: Envelope | None, *, detail: str
    ) -> Answer:
        """Ask for what is not to be kept; what goes to an API client is repaired, other answers stay as they are."""
        if client is None:
            return await self._relay.send(request, here, forwarded, detail=detail)
        reply = await self._relay.send(analysis_request.uncompressed(request), here, forwarded, detail=detail)
        answer = await spooled(reply, MAX_KEPT, in_memory=_in_memory(client))
        return await self._pipeline.adapted(await self._pipeline.repaired(answer, client), client)

    async def _asked_with_files(self, resolved: ResolvedQuery, client: Client) -> Answer:
        """Ask with files that are uploaded, which belong to the request: its job is the client's."""
        job = Job(self._clock())
        reply = await self._relay.send(client.request, client.here, "uri-miss")
        answer = await spooled(reply, MAX_KEPT, in_memory=_in_memory(client.envelope))
        if answer.status == OK:
            self._tokens.mark_verified(client.envelope.token)
        answer = await self._pipeline.repaired(answer, client.envelope)
        kept = await self._cache.store(answer, resolved, client.envelope, job)
        self._counts.kept += kept.stored
        status = replace(answer.cache_status, stored=kept.stored, detail=kept.detail)
        return await self._pipeline.adapted(replace(answer, cache_status=status), client.envelope)

    async def _description(self, request: Request, route: Route, here: str) -> Answer:
        """Answer what describes instruments and products: it changes seldom, and clients ask before each query."""
        relay = self._relay.send_instrument_list if route.kind is Kind.INSTRUMENTS else self._relay.send
        pairs, asked = (
            parse_fields(request.query_string),
            replace(analysis_request.uncompressed(request), timeout=DESCRIPTION_PATIENCE),
        )
        if analysis_request.has_credentials(request) or any(name == "token" for name, _ in pairs):
            return await self._pipeline.without_configuration(await relay(asked, here, "bypass", detail="token"))

        async def describe(forwarded: Forwarded) -> Answer:
            return await self._pipeline.without_configuration(await relay(asked, here, forwarded))

        return await self._descriptions.get(
            (route.path, *(f"{name}={value}" for name, value in sorted(pairs))),
            describe,
            refresh=bool(headers.directives(request.headers) & {"no-cache", "no-store"}),
        )


def _in_memory(envelope: Envelope) -> int | None:
    """Say how many bytes of an answer stay in memory: all that may be kept where it repeats a token."""
    return MAX_KEPT if envelope.token is not None else None
