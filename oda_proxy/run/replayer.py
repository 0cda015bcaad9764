"""Replaying a run: all its requests are answered from a capsule."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from contextlib import AsyncExitStack, asynccontextmanager, closing
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from oda_proxy.capsule import layout
from oda_proxy.capsule.capsule import open_capsule
from oda_proxy.capsule.readme import describe
from oda_proxy.capsule.secrets import may_hold_secret
from oda_proxy.config.options import PRODUCTION
from oda_proxy.errors import NoRecordingError, OdaProxyError
from oda_proxy.files.temporary import TemporaryFolder
from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.recorded_failures import failed_answer
from oda_proxy.handlers.services import Services
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.scope import EVERYTHING
from oda_proxy.jobs.policy import JobPolicy
from oda_proxy.proxy import Proxy
from oda_proxy.query.audience import Sharing, TokenVerifier
from oda_proxy.query.cache_key import PUBLIC
from oda_proxy.query.descriptions import Descriptions
from oda_proxy.query.message_text import printable
from oda_proxy.query.resolved import QueryResolver
from oda_proxy.run.dispatcher_requests import forwarded_to, page_below, public_description
from oda_proxy.run.listeners import command_listeners
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.memory import MemoryStore
from oda_proxy.store.near_misses import NearMissHandler
from oda_proxy.upstream.description_cache import DescriptionCache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from oda_proxy.capsule.capsule import Capsule, DispatcherCapsule
    from oda_proxy.capsule.exchange import Exchange
    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Request
    from oda_proxy.http.scope import AsOf, Scope
    from oda_proxy.query.cache_key import Key
    from oda_proxy.query.query import Envelope, Token
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.recordings.failures import Failure
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.run.forwarded_request import ForwardedRequest
    from oda_proxy.run.listeners import Listeners, OpenListeners
    from oda_proxy.store.base import Store
    from oda_proxy.store.near_misses import MissHandler

MAX_IN_MEMORY = 16 * 1024 * 1024
"""Bytes of a capsule whose recordings are read into memory; those of a larger one are in a temporary folder."""

_FOREVER = float("inf")

_counted_misses: ContextVar[list[str]] = ContextVar("_counted_misses")
"""The messages of the misses of the request that is answered in this context, which its observer has counted."""


class NotInCapsuleError(OdaProxyError):
    """A request to another server whose answer is not in the capsule."""

    http_status = 403  # programs do not retry
    detail = "not-in-capsule"


@dataclass(slots=True)
class CapsuleItem:
    """A part of a capsule, with its description in one line, its key, and the number of its uses."""

    about: str
    key: str = ""
    uses: int = 0


@dataclass(frozen=True, slots=True)
class _Page:
    """An exchange; where it has a `path`, its body is read from there when it is requested."""

    recorded: Exchange
    item: CapsuleItem
    path: str


class Replayer:
    """Answers the requests of a command from a capsule."""

    listeners: Listeners

    def __init__(self, capsule: Capsule, *, time_scale: float, as_of: Scope | None = None) -> None:
        """Replay a capsule; `time_scale` is the duration of jobs: 1 as recorded, 0 none.

        With `as_of`, what was recorded later than that counts as missing.
        """
        self.capsule = capsule
        self.items: list[CapsuleItem] = []
        self.requests = 0
        """Requests that came."""
        self.missed: Counter[str] = Counter()
        """Requests without an answer, one line each, and how often."""
        self._policy = Policy(
            description_ttl=_FOREVER,
            jobs=JobPolicy(time_scale=time_scale),
            memory=MAX_IN_MEMORY,
            as_of=EVERYTHING if as_of is None else replace(as_of, only=True),
        )
        self._proxies: dict[str, Proxy] = {}
        self._only_proxy: Proxy | None = None
        self._exchanges: defaultdict[str, list[_Page]] = defaultdict(list)

    @property
    def used(self) -> tuple[str, ...]:
        """The items that were requested."""
        return tuple(item.about for item in self.items if item.uses)

    @property
    def unused(self) -> tuple[str, ...]:
        """The items that were not requested."""
        return tuple(item.about for item in self.items if not item.uses)

    @property
    def source_date_epoch(self) -> int:
        """The time that the recorded run wrote into files, in s since 1970 (UTC)."""
        return self.capsule.manifest.epoch

    async def load(self, stack: AsyncExitStack) -> None:
        """Read the capsule; resources to close are put on `stack`. Raises CapsuleError."""
        is_large = await asyncio.to_thread(lambda: self.capsule.tree.size) > MAX_IN_MEMORY
        stack.callback(self.capsule.close)
        for dispatcher in self.capsule.dispatchers:
            store: Store = MemoryStore()
            if is_large:
                folder = stack.enter_context(TemporaryFolder("replay"))
                store = stack.enter_context(closing(DiskStore(Path(folder))))
            proxy = await self._load_dispatcher(dispatcher, store)
            stack.push_async_callback(proxy.close)
            self._proxies |= dict.fromkeys((dispatcher.url, *dispatcher.addresses), proxy)
        if len(self.capsule.dispatchers) == 1:
            self._only_proxy = proxy
        exchanges = await asyncio.to_thread(self._read_exchanges, has_bodies=not is_large)
        for path, recorded in sorted(exchanges, key=lambda one: (one[1].method == "GET", one[1].occurrence)):
            item = self._item(f"{recorded.method} {_printable(recorded.url)}")
            self._exchanges[recorded.url].append(_Page(recorded, item, path if is_large else ""))

    def _read_exchanges(self, *, has_bodies: bool) -> list[tuple[str, Exchange]]:
        """Read the exchanges, each with its path; the bodies of a large capsule are read when they are requested."""
        paths = filter(layout.is_exchange, self.capsule.files)
        found = ((path, self.capsule.exchange(path)) for path in paths)
        return [(path, one if has_bodies else replace(one, body=b"")) for path, one in found]

    async def answer_dispatcher(self, address: str | None, request: Request, *, origin: str) -> Answer:
        """Answer a request to a dispatcher from its recordings."""
        found = self._only_proxy or self._proxies.get(PRODUCTION) if address is None else self._proxies.get(address)
        self.requests += 1
        path = page_below(request)
        if path is not None and (page := await self._page_of_dispatcher(address, path, request)):
            return page
        proxy = found or self._unknown_dispatcher(address)
        counted: list[str] = []
        _counted_misses.set(counted)
        answer = await proxy.answer(public_description(request) or request, origin=origin)
        if answer.cache_status.detail == NoRecordingError.detail and not counted:
            # The address of our own listener is different each time.
            query = f"?{request.query_string}" if request.query_string else ""
            what = f"{'' if address is None else origin}{request.path}{query}"
            line = f"{request.method} {_printable(what)}: not recorded" if found else self._nothing_of(address)
            self.missed[line] += 1
        return answer

    async def answer_other(self, forwarded: ForwardedRequest) -> Answer:
        """Answer a request to another server. Raises NotInCapsuleError."""
        self.requests += 1
        if answer := await self._answer_page(forwarded):
            return answer
        request = forwarded.request
        what = f"{request.method} {_printable(forwarded.url)}"
        self.missed[f"{what}: not in the capsule"] += 1
        raise NotInCapsuleError(f"offline: {what} is not in the capsule, and a replay sends no requests")

    async def _answer_page(self, forwarded: ForwardedRequest) -> Answer | None:
        """Answer a request from the exchanges: of several occurrences the next one, and the last again and again."""
        request = forwarded.request
        body = request.body if isinstance(request.body, bytes) else None
        found = [
            page
            for page in self._exchanges.get(forwarded.url, ())
            if page.recorded.matches(request.method, forwarded.url, request.headers, body)
        ]
        if not found:
            return None
        series = [page for page in found if page.recorded.request == found[0].recorded.request]
        page = next((one for one in series if not one.item.uses), series[-1])
        page.item.uses += 1
        recorded = await asyncio.to_thread(self.capsule.exchange, page.path) if page.path else page.recorded
        return recorded.answer(CacheStatus(hit=True))

    async def _page_of_dispatcher(self, address: str | None, path: str, request: Request) -> Answer | None:
        """Answer a request for a page below the address of a dispatcher."""
        for dispatcher in self.capsule.dispatchers:
            is_it = address in {dispatcher.url, *dispatcher.addresses} or (
                address is None and (self._only_proxy is not None or dispatcher.url == PRODUCTION)
            )
            if is_it and (answer := await self._answer_page(forwarded_to(dispatcher.url, path, request))):
                return answer
        return None

    async def observe_local(self, request: Request) -> None:
        """Do nothing."""

    def _unknown_dispatcher(self, address: str | None) -> Proxy:
        """Make a proxy for a dispatcher that the capsule does not have."""
        handler = _NothingRecorded(self._nothing_of(address))
        services = Services(miss_handler=handler, observer=_ReplayObserver({}, self.missed))
        return Proxy(MemoryStore(), None, self._policy, services=services)

    def _nothing_of(self, address: str | None) -> str:
        """Return the message for a dispatcher that the capsule does not have."""
        urls = ", ".join(dispatcher.url for dispatcher in self.capsule.dispatchers) or "no dispatcher"
        return f"offline: the capsule is of {urls}, and has nothing of {address or PRODUCTION}"

    async def _load_dispatcher(self, dispatcher: DispatcherCapsule, store: Store) -> Proxy:
        """Make a proxy with the recordings of a dispatcher, under the keys that their queries have in this release."""
        instruments = Descriptions(None, dispatcher.folder, ttl=_FOREVER, clock=time.monotonic)
        resolver = QueryResolver(instruments)
        items: dict[Key, CapsuleItem] = {}
        recordings = dispatcher.recordings()
        while (recording := await asyncio.to_thread(next, recordings, None)) is not None:
            key = (await resolver.resolve(recording.query)).key if recording.query else recording.key
            # Everyone with access to the capsule may read everything in it.
            await asyncio.to_thread(store.put, replace(recording, key=key, private=False))
            items[key] = self._item(describe(recording.query), recording.key)
        recorded_failures: dict[Key, Failure] = {}
        for failure in dispatcher.failures.values():
            key = (await resolver.resolve(failure.query)).key if failure.query else failure.key
            recorded_failures[key] = failure
            items[key] = self._item(f"{describe(failure.query)}, which failed", failure.key)
        services = Services(
            instruments=instruments,
            tokens=_AnyToken(),
            description_cache=DescriptionCache(_FOREVER, time.time, dispatcher.folder),
            observer=_ReplayObserver(items, self.missed),
            miss_handler=_RecordedFailures(recorded_failures, items, dispatcher.url, NearMissHandler(store)),
        )
        return Proxy(store, None, self._policy, services=services)

    def _item(self, about: str, key: str = "") -> CapsuleItem:
        self.items.append(item := CapsuleItem(about, key))
        return item


@asynccontextmanager
async def replaying(
    folder: Path,
    *,
    time_scale: float = 0.0,
    as_of: Scope | None = None,
    listen: OpenListeners = command_listeners,
    upstream: str = PRODUCTION,
    former_urls: Sequence[str] = (),
) -> AsyncIterator[Replayer]:
    """Replay the capsule in `folder`, or in an archive, until the block ends; nothing is sent to other machines.

    `time_scale` is the duration of jobs: 1 as recorded, 0 none. With `as_of`, what was recorded later counts as
    missing, and jobs take no time. `listen` opens the listeners. What was recorded of a dispatcher at
    one of the `former_urls` answers requests to `upstream`, too. Raises CapsuleError, which names the file, and
    ListenError.
    """
    capsule = await asyncio.to_thread(open_capsule, folder)
    replayer = Replayer(capsule.with_present_address(upstream, former_urls), time_scale=time_scale, as_of=as_of)
    async with AsyncExitStack() as stack:
        await replayer.load(stack)
        replayer.listeners = await stack.enter_async_context(listen(replayer))
        yield replayer


class _AnyToken(TokenVerifier):
    """Ignores tokens, expired or not: everyone with access to the capsule may read everything in it."""

    def __init__(self) -> None:
        super().__init__(Sharing.TEAM, secret_key=None, trust=0.0, clock=time.time)

    def audience(self, token: Token | None) -> str:  # noqa: ARG002 - the same for every token
        """Return the public audience."""
        return PUBLIC

    def is_verified(self, token: Token | None) -> bool:  # noqa: ARG002 - the same for every token
        """Return True: a token changes nothing."""
        return True

    def check(self, token: Token | None) -> None:
        """Accept every token."""


class _ReplayObserver:
    """Counts uses and misses."""

    def __init__(self, items: Mapping[Key, CapsuleItem], missed: Counter[str]) -> None:
        self._items = items
        self._missed = missed

    async def stored(self, recording: Recording) -> None:
        """Do nothing: a replay stores nothing."""

    async def served(self, recording: Recording) -> None:
        """Count a use of a recording."""
        self._items[recording.key].uses += 1

    async def failed(self, resolved: ResolvedQuery, failure: Failure | None) -> None:
        """Do nothing: there is no upstream that could fail."""

    async def missed(self, resolved: ResolvedQuery, message: str) -> None:  # noqa: ARG002 - the message describes it
        """Count a query without a recording."""
        self._missed[message] += 1
        _counted_misses.get().append(message)


class _RecordedFailures:
    """Answers a query with its recorded failure."""

    def __init__(
        self,
        recorded: Mapping[Key, Failure],
        items: Mapping[Key, CapsuleItem],
        address: str,
        otherwise: MissHandler,
    ) -> None:
        self._recorded = recorded
        self._items = items
        self._address = address
        self._otherwise = otherwise

    async def answer(self, resolved: ResolvedQuery, envelope: Envelope, as_of: AsOf | None = None) -> Answer:
        """Return the failure of a query, if it was recorded by then.

        Raises NoRecordingError, with the nearest recording, where there is none.
        """
        failure = self._recorded.get(resolved.key)
        if failure is None or (as_of is not None and failure.failed_at > as_of.time):
            return await self._otherwise.answer(resolved, envelope, as_of)
        self._items[resolved.key].uses += 1
        return failed_answer(failure, envelope, address=self._address, as_of=as_of)


@dataclass(frozen=True, slots=True)
class _NothingRecorded:
    """Answers every query with the message that the capsule does not have the dispatcher."""

    message: str

    async def answer(
        self,
        resolved: ResolvedQuery,  # noqa: ARG002 - the same for all
        envelope: Envelope,  # noqa: ARG002
        as_of: AsOf | None = None,  # noqa: ARG002
    ) -> NoReturn:
        """Raise NoRecordingError."""
        raise NoRecordingError(self.message)


def _printable(url: str) -> str:
    """Return a URL for a message, without its query where that may hold a secret."""
    if may_hold_secret(url):
        url = url.partition("?")[0]
    return printable(url)
