"""The whole story: a question comes in, an answer goes out.

request -> where does it lead? -- elsewhere ------------> relayed as it is
              |-- description ---> asked for lately? ---> the same again, or relayed and remembered
              '-- run_analysis --> kept? ---------------> spliced for this asker
                                    '-> relayed; where it is the complete answer, redacted and kept
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cachetools import TTLCache

from oda_proxy import headers, routes
from oda_proxy.answer import OK, Answer, Read, age, failure, is_plain, refusal
from oda_proxy.audience import Sharing, Tokens
from oda_proxy.cache_status import CacheStatus
from oda_proxy.echo import job_id_of
from oda_proxy.errors import BadQueryError, NotCachedError, OdaProxyError, StoreUnusableError, UpstreamUnreachableError
from oda_proxy.faults import Faults
from oda_proxy.freshness import Freshness
from oda_proxy.mending import UNSAFE, Mending
from oda_proxy.multipart import MULTIPART, read_form
from oda_proxy.query import Envelope, Query, fields, split
from oda_proxy.question import JobIds, Question, Questions
from oda_proxy.recording import as_kept, redact, splice
from oda_proxy.redaction import NotKeptError
from oda_proxy.relay import Relay
from oda_proxy.remembered import Remembered
from oda_proxy.routes import Kind, Route
from oda_proxy.spool import IN_MEMORY, Spooled, spooled

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.cache_status import Forwarded
    from oda_proxy.descriptions import Descriptions
    from oda_proxy.key import Key
    from oda_proxy.recording import Recording
    from oda_proxy.store.base import Store
    from oda_proxy.upstream.base import Ask, Upstream

_log = logging.getLogger(__name__)

MAX_KEPT = 256 * 1024 * 1024
"""Bytes of an answer that is kept; the largest known, 31 response matrices, has 57 million. Others pass through."""
DESCRIPTION_PATIENCE = 15.0
"""Seconds that a dispatcher has to describe an instrument: clients wait for that before each query."""
MAX_RUNNING, LONGEST_RUN = 4096, 86400.0
"""Queries of which it is remembered when they were first asked, and for how long, in s."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What houses decide differently; a description is remembered for `description_ttl` s."""

    opened: frozenset[str] = frozenset()
    """Closed routes that are open."""
    description_ttl: float = 300.0
    freshness: Freshness = field(default_factory=Freshness)


@dataclass(slots=True)
class Counts:
    """What became of the requests for `run_analysis` since the start."""

    hits: int = 0
    asked: int = 0
    failed: int = 0
    kept: int = 0
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
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take what it stands on; `clock` gives s since 1970 (UTC). Without descriptions words are only words."""
        self.store = store
        self.upstream = upstream
        self._mending = Mending()
        self.counts = Counts(unsafe=self._mending.refused)
        self._relay = Relay(upstream)
        self._questions = Questions(instruments)
        self._job_ids = JobIds()
        self._tokens = tokens or Tokens(Sharing.SUBJECT, secret_key=None, trust=0.0, clock=clock)
        self._policy = policy
        self._clock = clock
        self._remembered = remembered or Remembered(policy.description_ttl, clock)
        self.store_faults = Faults(clock)
        self._first_asked: TTLCache[Key, float] = TTLCache(MAX_RUNNING, ttl=LONGEST_RUN, timer=clock)
        self._redacting = asyncio.Lock()

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
            self.counts.asked += 1
            return await self._asked(ask, here, "bypass", _api_client(ask), detail="not-a-query")
        try:
            answer = await self._product(query, envelope, ask, here)
        except OdaProxyError as error:
            self.counts.failed += 1
            return failure(error, envelope)
        self.counts.job_ids_shared = self._job_ids.shared
        self.counts.hits += answer.cache_status.hit
        self.counts.asked += not answer.cache_status.hit
        self.counts.kept += answer.cache_status.stored
        return answer

    async def _product(self, query: Query, envelope: Envelope, ask: Ask, here: str) -> Answer:
        """Answer a query from its recording, or ask for it and keep what comes."""
        if reason := _not_ours(query, envelope, ask):
            return await self._asked(ask, here, "bypass", envelope if query.api else None, detail=reason)
        if (audience := self._audience(envelope)) is None:
            return await self._asked(ask, here, "bypass", envelope, detail="token")
        question, wishes = await self._questions.read(query, audience=audience), headers.directives(ask.headers)
        anew = envelope.query_status != "new" or bool(wishes & {"no-cache", "no-store"})
        anew = anew or not self._tokens.verified(envelope.token)
        recording = None if anew else await self._look_up(question)
        if recording and self._is_good(recording):
            return self._hit(recording, envelope, here)
        if "only-if-cached" in wishes:
            raise NotCachedError
        forwarded: Forwarded = "request" if anew else "stale" if recording else "uri-miss"
        if "no-store" in wishes:
            return await self._asked(ask, here, forwarded, envelope, detail="no-store")
        try:
            return await self._ask_and_keep(ask, here, question, envelope, forwarded)
        except UpstreamUnreachableError:
            if recording and (recording := await self._look_up(question)):
                return self._hit(recording, envelope, here, detail="stale")  # better than nothing (RFC 5861)
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

    async def _ask_and_keep(
        self, ask: Ask, here: str, question: Question, envelope: Envelope, forwarded: Forwarded
    ) -> Answer:
        """Ask for what may be kept; an answer with a token says that the dispatcher took it."""
        first_asked = self._first_asked.setdefault(question.key, self._clock())
        reply = await self._relay.ask(_uncompressed(ask), here, forwarded)
        answer = await spooled(reply, MAX_KEPT, in_memory=_in_memory(envelope))
        if answer.status == OK:
            self._tokens.vouch(envelope.token)
        answer = await self._mending.repaired(answer, envelope)
        return await self._mending.formed(await self._keep(answer, question, envelope, first_asked), envelope)

    async def _asked(
        self, ask: Ask, here: str, forwarded: Forwarded, client: Envelope | None, *, detail: str
    ) -> Answer:
        """Ask for what is not to be kept; what goes to an API client is repaired, other answers stay as they are."""
        if client is None:
            return await self._relay.ask(ask, here, forwarded, detail=detail)
        reply = await self._relay.ask(_uncompressed(ask), here, forwarded, detail=detail)
        answer = await spooled(reply, MAX_KEPT, in_memory=_in_memory(client))
        return await self._mending.formed(await self._mending.repaired(answer, client), client)

    async def _look_up(self, question: Question) -> Recording | None:
        """Find a recording; one under an earlier key must show that it answers what is asked today."""
        if recording := await self._get(question.key):
            return recording
        for key in question.earlier_keys:
            if recording := await self._get(key):
                if await question.is_answered_by(recording.echo):
                    return recording
                recording.head.close()
        return None

    async def _get(self, key: Key) -> Recording | None:
        """Get a recording; a store that fails has none."""
        try:
            recording = await asyncio.to_thread(self.store.get, key)
        except StoreUnusableError as error:
            self.store_faults.failed("read", error)
            return None
        self.store_faults.succeeded("read")
        return recording

    def _hit(self, recording: Recording, envelope: Envelope, here: str, *, detail: str = "") -> Answer:
        """Answer from a recording."""
        now = self._clock()
        spliced = splice(recording, envelope, now=now, address=here)
        told = (("Content-Type", "application/json"), ("Content-Length", str(spliced.size)))
        body = Read(spliced, recording.head.close)
        return Answer(OK, (*told, age(recording.stored_at, now)), body, CacheStatus(hit=True, detail=detail))

    async def _keep(self, answer: Answer, question: Question, envelope: Envelope, first_asked: float) -> Answer:
        """Keep an answer that is the complete one, before it is passed on: who asks next finds it."""
        if not is_plain(answer) or answer.cache_status.detail == UNSAFE:
            return answer
        if not isinstance(answer.body, Spooled):
            return _remarked(answer, "too-large")
        try:
            recording = await self._redacted(answer.body, question.key, envelope)
            self._first_asked.pop(question.key, None)
            await self._refuse_contradictions(recording, question)
            query = as_kept(question.query, envelope)
            recording = replace(recording, query=query, cost=max(recording.stored_at - first_asked, 0.0))
            await asyncio.to_thread(self.store.put, recording)
        except NotKeptError as reason:
            return _remarked(answer, str(reason))
        except StoreUnusableError as error:
            self.store_faults.failed("kept", error)
            return _remarked(answer, error.word)
        self.store_faults.succeeded("kept")
        return replace(answer, cache_status=replace(answer.cache_status, stored=True))

    async def _redacted(self, body: Spooled, key: Key, envelope: Envelope) -> Recording:
        """Make a recording in a thread; large ones, of which there are several copies meanwhile, one by one."""

        def make() -> Recording:
            text = body.read()
            self._job_ids.note(job_id_of(text), key)
            return redact(text, envelope, key=key, stored_at=self._clock())

        async with self._redacting if body.size > IN_MEMORY else nullcontext():
            return await asyncio.to_thread(make)

    async def _refuse_contradictions(self, recording: Recording, question: Question) -> None:
        """Raise NotKeptError where the dispatcher says that it answered another question."""
        names = await question.contradictions(recording.echo)
        if not names:
            return
        self.counts.echo_differs += 1
        self._questions.doubt(question)
        asked = f"{question.query.instrument!r:.100} {question.query.product_type!r:.100}"
        _log.warning("an answer for %s differs from what was asked in %r and is not kept", asked, names[:10])
        raise NotKeptError("echo-differs")

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


def _not_ours(query: Query, envelope: Envelope, ask: Ask) -> str:
    """Say why a request is not answered from recordings and its answer not kept, or nothing where both may be."""
    if _has_credentials(ask):
        return "credentials"
    if not query.api:
        return "not-api"  # pages for the web frontend name files that belong to one session
    if query.partial:
        return "partial"
    if not envelope.awaits_products:
        return "poll"
    return ""


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


def _remarked(answer: Answer, detail: str) -> Answer:
    return replace(answer, cache_status=replace(answer.cache_status, detail=detail))
