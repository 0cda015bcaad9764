"""The proxy: a request in, an answer out.

request -> route? -- any other ---------------------> relayed unchanged
             |------ description ---> cached? ------> from the cache, or relayed and cached
             '------ run_analysis --> recording? ---> spliced for this client
                                        '-----------> one job for all clients of the query: polled to its end,
                                                      redacted, stored, spliced for each client

as-of:       under /as-of/DATE, the version that was the answer then is served (handlers/past_answers.py)
collections: under /in/NAME, what a client receives is noted in the collection before (handlers/collecting.py)
capsules:    recordings of capsules that are served come before those of the store (handlers/capsule_recordings.py)
replicas:    servers that share a store run one job for all their clients (jobs/replicas.py, replicas/)
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from oda_proxy.compat.failure_answers import failure_answer
from oda_proxy.compat.pipeline import RepairPipeline
from oda_proxy.errors import (
    BadQueryError,
    InternalError,
    NotCachedError,
    OdaProxyError,
    UpstreamUnreachableError,
)
from oda_proxy.handlers.capsule_recordings import CAPSULE, CapsuleRecordings
from oda_proxy.handlers.collecting import CollectionHandler
from oda_proxy.handlers.counts import Counts, Outcomes, count
from oda_proxy.handlers.descriptions import DescriptionHandler
from oda_proxy.handlers.fresh_recordings import FreshnessHandler
from oda_proxy.handlers.hits import HitHandler
from oda_proxy.handlers.limits import LimitHandler
from oda_proxy.handlers.other_routes import OtherRouteHandler
from oda_proxy.handlers.past_answers import PastAnswerHandler
from oda_proxy.handlers.past_durations import add_past_durations
from oda_proxy.handlers.persons import Persons
from oda_proxy.handlers.query_tally import COLD, HOT, QueryTally
from oda_proxy.handlers.recorded_failures import CapsuleFailures
from oda_proxy.handlers.request_notes import note_person, note_query
from oda_proxy.handlers.services import Services
from oda_proxy.handlers.token_checks import TokenChecker
from oda_proxy.http import routes
from oda_proxy.http.answer import Answer, text_error
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.cors import options_answer
from oda_proxy.http.memory import ProcessingBudget
from oda_proxy.http.routes import Kind
from oda_proxy.jobs.client import Client
from oda_proxy.jobs.coalescing import Jobs, provisional_job_id
from oda_proxy.jobs.journal import JobJournal
from oda_proxy.jobs.relaying import QueryRelay
from oda_proxy.jobs.replicas import NoReplicas
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.jobs.services import JobServices
from oda_proxy.metrics.request_counts import RequestCounts
from oda_proxy.query import analysis_request
from oda_proxy.query.audience import Sharing, TokenVerifier
from oda_proxy.query.descriptions import Descriptions
from oda_proxy.query.query import Envelope
from oda_proxy.query.query_memo import QueryMemo
from oda_proxy.query.resolved import QueryResolver
from oda_proxy.query.token_probe import TokenProbe
from oda_proxy.store.eviction import EvictionCounts
from oda_proxy.store.faults import StoreFaults
from oda_proxy.store.near_misses import NearMissHandler
from oda_proxy.store.recording_cache import RecordingCache
from oda_proxy.upstream.description_cache import DescriptionCache
from oda_proxy.upstream.relay import Relay

if TYPE_CHECKING:
    from oda_proxy.handlers.policy import Policy
    from oda_proxy.http.cache_status import Forwarded
    from oda_proxy.http.message import Request, Upstream
    from oda_proxy.http.routes import Route
    from oda_proxy.jobs.observer import QueryObserver
    from oda_proxy.metrics.query_counts import QueryCounts
    from oda_proxy.query.query import Query
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Store
    from oda_proxy.store.freshness import Freshness
    from oda_proxy.store.hot_tier import HotTier

_log = logging.getLogger(__name__)

_DESCRIPTIONS = frozenset({Kind.DESCRIPTION, Kind.INSTRUMENTS})


class Proxy:
    """Answers requests from a store and an upstream; without an upstream it is offline."""

    def __init__(
        self,
        store: Store,
        upstream: Upstream | None,
        policy: Policy,
        *,
        services: Services | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        services, runtime = services or Services(), runtime or Runtime()
        clock = runtime.clock
        self.store = store
        self.cors = policy.cors
        self.upstream = upstream
        self.store_faults = StoreFaults(clock)
        self._open_routes = policy.open_routes
        self._freshness = FreshnessHandler(policy.freshness, clock, is_online=upstream is not None)
        self.request_counts = RequestCounts()
        self.evictions = EvictionCounts()
        budget = ProcessingBudget()
        self._pipeline = RepairPipeline(budget)
        self._upstream_relay = Relay(upstream)
        self._query_memo = QueryMemo()
        self.instruments = services.instruments or Descriptions(None, None, ttl=math.inf, clock=clock)
        self._resolver = QueryResolver(services.instruments)
        self._tally = QueryTally(self._resolver)
        self._tokens = services.tokens or TokenVerifier(Sharing.SUBJECT, secret_key=None, trust=0.0, clock=clock)
        token_probe = TokenProbe(upstream, self._tokens, clock=clock)
        self._token_checker = TokenChecker(self._tokens, token_probe, is_online=upstream is not None)
        self.persons = Persons(self._tokens, token_probe, self._resolver, store, clock)
        self._descriptions = services.description_cache or DescriptionCache(policy.description_ttl, clock)
        self._cache = RecordingCache(
            store, self.store_faults, self._resolver, clock, budget, memory=policy.memory, is_same=services.is_same
        )
        describing_relay = Relay(services.describing or upstream)
        self._description_handler = DescriptionHandler(describing_relay, self._pipeline, self._descriptions)
        self.capsules = services.capsules or CapsuleRecordings()
        near_misses = services.miss_handler or NearMissHandler(store, clock=clock)
        self._miss_handler = CapsuleFailures(self.capsules, near_misses)
        self.collections = CollectionHandler(services, store, self._resolver, self._tokens, self._description_handler)
        self._observer: QueryObserver = self.collections.observer
        self._hits = HitHandler(
            self._cache,
            self._resolver,
            policy,
            runtime,
            self._tally,
            capsules=self.capsules,
            is_online=upstream is not None,
            is_observed=services.observer is not None,
        )
        self._past = PastAnswerHandler(
            store,
            self.capsules,
            self.store_faults,
            self._hits,
            self._observer,
            miss_handler=self._miss_handler,
            default=policy.as_of,
            clock=clock,
        )
        job_services = JobServices(
            relay=self._upstream_relay,
            pipeline=self._pipeline,
            cache=self._cache,
            budget=budget,
            tokens=self._tokens,
            journal=services.journal or JobJournal(None),
            observer=self._observer,
            replicas=services.replicas or NoReplicas(),
        )
        self._relay = QueryRelay(job_services, clock)
        self.limits = LimitHandler(self._query_memo, self._resolver, self._tokens, policy.cors, clock)
        self.jobs = Jobs(job_services, policy.jobs, runtime)
        self._other_routes = OtherRouteHandler(
            self._upstream_relay,
            policy.cors,
            self._tally.sessions,
            services.others,
            expire_descriptions=self.expire_descriptions,
            note_report=self.jobs.note_report,
        )

    @property
    def outcomes(self) -> Outcomes:
        """How many requests for `run_analysis` had each outcome."""
        return self._tally.outcomes

    @property
    def query_counts(self) -> QueryCounts:
        """How many queries had each outcome, by instrument."""
        return self._tally.queries

    @property
    def hot_tier(self) -> HotTier:
        """The recordings in memory."""
        return self._cache.hot_tier

    @property
    def counts(self) -> Counts:
        """The counts at this moment."""
        return count(self._tally.outcomes, self.jobs, self._relay, self._cache, self._pipeline)

    async def resume(self) -> None:
        """Resume the jobs of an earlier process."""
        if self.upstream:
            await self.jobs.resume(self._resolver)

    async def estimate(self) -> None:
        """Learn from the last recordings of each product how long jobs take."""
        await add_past_durations(self.jobs.estimates, self.store, self.store_faults)

    async def close(self, grace: float = 0.0) -> None:
        """Cancel the running jobs; first submissions have `grace` s to be answered."""
        await self.jobs.close(grace)

    async def answer(self, request: Request, *, origin: str) -> Answer:
        """Answer any request; `origin` is the proxy's scheme, host and port as the client sees them."""
        if preflight := self.cors.preflight_answer(request):
            return preflight
        return self.cors.apply(await self._answer(request, origin), request.headers)

    async def answer_alone(self, request: Request, *, origin: str) -> Answer | None:
        """Answer a request as `answer` does, without knowing what jobs run; None where that takes more.

        Queries are answered from recordings: one that is stale, or whose token is not verified, counts as absent.
        Descriptions are cached.
        """
        try:
            route = routes.find(request.path, open_routes=self._open_routes)
            if route.kind in _DESCRIPTIONS and request.method == "GET":
                return await self.answer(request, origin=origin)
            if route.kind is not Kind.ANALYSIS or request.method not in {"GET", "POST"}:
                return None
            query, envelope = analysis_request.read_query(request, self._query_memo)
            if (scope := self._scoped(request, route).scope).as_of is not None or scope.collection:
                return None
        except OdaProxyError:
            return None
        if (found := await self._recording_at_once(query, envelope, request)) is None:
            return None
        resolved, recording, status = found
        await self._observer.served(recording)
        client = Client(request, envelope, origin + route.prefix)
        answer = self.cors.apply(self._hits.answer(recording, client, status, resolved), request.headers)
        self._tally.count(query, envelope, status)
        return answer

    async def _recording_at_once(
        self, query: Query, envelope: Envelope, request: Request
    ) -> tuple[ResolvedQuery, Recording, CacheStatus] | None:
        """Return the recording that answers a query of a client, whatever jobs run; None where it may not be served.

        The last value is as in `_find_recording`.
        """
        control = self._freshness.control(request)
        if envelope.query_status != "new" or envelope.job_id or control.refreshes:
            return None
        is_bypassed, audience = analysis_request.bypass_reason(query, request), self._tokens.audience(envelope.token)
        if is_bypassed or audience is None or not self._tokens.is_verified(envelope.token):
            return None
        resolved = await self._resolver.resolve(query, audience=audience)
        note_query(request, resolved)
        note_person(request, envelope.token)
        recording, status = await self._find_recording(resolved)
        if recording is None:
            return None
        age_allowed = self._freshness.allows_age(recording, control)
        is_fresh = status is CAPSULE or self._freshness.is_fresh(recording, age_allowed=age_allowed)
        return (resolved, recording, status) if is_fresh else None

    async def _find_recording(self, resolved: ResolvedQuery) -> tuple[Recording | None, CacheStatus]:
        """Return the recording of a query, and the cache status of an answer from it."""
        if self.capsules.capsules and (recording := await self.capsules.find(resolved.query)):
            return recording, CAPSULE
        if recording := self._cache.find(resolved):
            return recording, HOT
        return await self._cache.look_up(resolved), COLD

    def set_freshness(self, freshness: Freshness) -> None:
        """Replace the rules by which recordings are fresh."""
        self._freshness.rules = freshness
        self._hits.set_freshness(freshness)

    def has_served(self, session_id: str) -> bool:
        """Return whether a session was served a recording, or the job of another client."""
        return session_id in self._tally.sessions

    def expire_descriptions(self) -> None:
        """Have descriptions fetched again before they are next used: the dispatcher has other ones now."""
        self._descriptions.expire()
        self._resolver.expire_descriptions()

    async def _answer(self, request: Request, origin: str) -> Answer:
        try:
            route = routes.find(request.path, open_routes=self._open_routes)
            request = request if request.path == route.path else replace(request, path=route.path)
            base_url = origin + route.prefix
            if route.kind is Kind.ANALYSIS and request.method in {"GET", "HEAD", "POST"}:
                return await self._analysis(request, route, base_url)
            request = self._scoped(request, route)
            if route.kind in _DESCRIPTIONS and request.method in {"GET", "HEAD"}:
                return self._past.remark(await self.collections.describe(request, route, base_url), request, route)
            if request.method == "OPTIONS" and self.upstream is None:
                return options_answer()
            return self._past.remark(await self._other_routes.answer(request, route, base_url), request, route)
        except OdaProxyError as error:
            return text_error(error)
        except Exception as error:  # noqa: BLE001 - whatever a library raises, clients receive a failure they can read
            _log.error("%s", (internal := InternalError(error)).log_line)
            return text_error(internal)

    def _scoped(self, request: Request, route: Route) -> Request:
        """Return a request with the scope that its prefix names; raises BadQueryError."""
        return self.collections.checked(self._past.scoped(request, route))

    async def _analysis(self, request: Request, route: Route, base_url: str) -> Answer:
        """Answer `run_analysis`; an error becomes a failed job."""
        query, envelope = None, Envelope()
        try:
            try:
                query, envelope = analysis_request.read_query(request, self._query_memo)
            except BadQueryError:  # relayed, for the dispatcher's own error message
                request = self._scoped(request, route)
                api_client = analysis_request.api_envelope(request)
                answer = await self._relay.send(request, base_url, "bypass", api_client, detail="not-a-query")
            else:
                request = self._scoped(request, route)
                answer = await self._query(query, envelope, request, base_url)
                answer = await self.collections.note_query(request, query, envelope, answer, base_url)
        except OdaProxyError as error:
            return self._failure(error, query, envelope)
        except Exception as error:  # noqa: BLE001 - as in `answer`
            _log.error("%s", (internal := InternalError(error)).log_line)
            return self._failure(internal, query, envelope)
        self._tally.count(query, envelope, answer.cache_status)
        return self._past.remark(answer, request, route)

    def _failure(self, error: OdaProxyError, query: Query | None, envelope: Envelope) -> Answer:
        """Count an error, and return it as a failed job."""
        answer = failure_answer(error, envelope)
        self._tally.count_failure(query, envelope, answer.cache_status)
        return answer

    async def _query(self, query: Query, envelope: Envelope, request: Request, base_url: str) -> Answer:
        """Answer a query from its recording, or from its job."""
        reason, scope = analysis_request.bypass_reason(query, request), request.scope
        if reason and not (scope.as_of and reason == analysis_request.CREDENTIALS):
            return await self._relay.send(request, base_url, "bypass", envelope if query.api else None, detail=reason)
        if error := analysis_request.state_error(envelope):
            if self.upstream is None:
                raise BadQueryError(error)
            return await self._relay.send(request, base_url, "bypass", envelope, detail="state")
        if (audience := self._token_checker.audience(envelope)) is None:
            return await self._relay.send(request, base_url, "bypass", envelope, detail="token")
        resolved = await self._resolver.resolve(query, audience=audience, may_request=not scope.only)
        note_query(request, resolved)
        client = Client(request, envelope, base_url)
        if past := await self._past.answer(resolved, client, self._token_checker.is_verified):
            return past
        if reason:
            return await self._relay.send(request, base_url, "bypass", envelope, detail=reason)
        return await self._answer_today(resolved, client)

    async def _answer_today(self, resolved: ResolvedQuery, client: Client) -> Answer:
        """Answer a query of a known audience as of now; no job begins for HEAD."""
        envelope = client.envelope
        if (request := client.request).method == "HEAD":
            if found := await self._recording_at_once(resolved.query, envelope, request):
                return self._hits.answer(found[1], client, found[2])
            return await self._relay.send(request, client.base_url, "bypass", envelope, detail="head")
        if not envelope.awaits_products:
            return await self._poll(resolved, client.uncompressed())
        if envelope.job_id and self.upstream and not await self._is_own_job(resolved, envelope):
            return await self._relay.send_and_store(resolved, client.uncompressed(), "request")
        return await self._lookup(resolved, client)

    async def _is_own_job(self, resolved: ResolvedQuery, envelope: Envelope) -> bool:
        """Return whether the job_id is the one that clients receive for this query; any other is the dispatcher's."""
        if envelope.job_id == provisional_job_id(resolved) or self.jobs.has_job(resolved, envelope):
            return True
        return await self._cache.job_id(resolved) == envelope.job_id

    async def _lookup(self, resolved: ResolvedQuery, client: Client) -> Answer:
        """Answer from the recording of a query, unless it is stale or the client wants a new one."""
        envelope, control = client.envelope, self._freshness.control(client.request)
        resubmit = envelope.query_status == "new" and (control.no_cache or envelope.job_id != "")
        refresh = resubmit or envelope.query_status != "new" or control.no_store
        completions = self.jobs.completions  # read first: a job that ends during the look-up counts as running
        recording, status = (None, COLD) if refresh else await self._find_recording(resolved)
        saves_query = recording is not None or await self.jobs.is_shared(resolved, envelope)
        if not await self._token_checker.is_verified(envelope, resolved, saves_query=saves_query):
            if recording:
                recording.head.close()
            refresh, recording = True, None
        else:
            note_person(client.request, envelope.token)
        age_allowed = recording is None or self._freshness.allows_age(recording, control)
        if recording and (status is CAPSULE or self._freshness.is_fresh(recording, age_allowed=age_allowed)):
            return await self._serve_recording(recording, resolved, client, status)
        if control.only_if_cached:
            raise NotCachedError
        if self.upstream is None:
            return await self._miss(resolved, envelope)
        client = client.uncompressed()
        if control.no_store:
            return await self._relay.send(client.request, client.base_url, "request", envelope, detail="no-store")
        try:
            forwarded: Forwarded = "request" if refresh or not age_allowed else "stale" if recording else "uri-miss"
            return await self.jobs.join(
                resolved,
                client,
                forwarded,
                completions=completions,
                has_stale=recording is not None,
                resubmit=resubmit,
            )
        except UpstreamUnreachableError:
            if recording and (recording := await self._cache.look_up(resolved)):
                return self._hits.answer(recording, client, CacheStatus(hit=True, detail="stale"))  # RFC 5861
            if failed := await self._miss_handler.find(resolved.query, envelope):
                return failed
            raise

    async def _serve_recording(
        self, recording: Recording, resolved: ResolvedQuery, client: Client, status: CacheStatus
    ) -> Answer:
        """Answer from a recording; a replay may take the time that its job took."""
        await self._observer.served(recording)
        replayed = await self.jobs.replay(resolved, client, recording) if self.upstream is None else None
        return replayed or self._hits.answer(recording, client, status, resolved)

    async def _miss(self, resolved: ResolvedQuery, envelope: Envelope) -> Answer:
        """Answer a query without a recording, offline."""
        try:
            return await self._miss_handler.answer(resolved, envelope)
        except OdaProxyError as error:
            await self._observer.missed(resolved, str(error))
            raise

    async def _poll(self, resolved: ResolvedQuery, client: Client) -> Answer:
        """Answer a poll from the job or the recording of its query; for an unknown job, ask the dispatcher."""
        envelope = client.envelope
        if answer := await self.jobs.poll(resolved, client):
            return answer
        if self._tokens.is_verified(envelope.token) and (recording := await self._cache.look_up(resolved)):
            return self._hits.answer(recording, client, COLD)
        if self.upstream is None:
            return await self._miss(resolved, envelope)
        if await self.jobs.can_resume(resolved, envelope):
            return await self.jobs.join(resolved, client, "uri-miss")
        if analysis_request.has_files(client.request):
            return await self._relay.send_and_store(resolved, client, "bypass")
        return await self._relay.send(client.request, client.base_url, "bypass", envelope, detail="poll")
