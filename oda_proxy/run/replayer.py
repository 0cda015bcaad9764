"""Replaying a run: everything that it asks is answered from its capsule, and nobody is asked."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from oda_proxy.capsule import exchange
from oda_proxy.capsule.capsule import CapsuleError, open_capsule
from oda_proxy.config import PRODUCTION
from oda_proxy.errors import NoRecordingError, OdaProxyError
from oda_proxy.http.answer import Answer
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.jobs.policy import JobPolicy
from oda_proxy.proxy import Policy, Proxy, Services
from oda_proxy.query.audience import Sharing, TokenVerifier
from oda_proxy.query.cache_key import PUBLIC
from oda_proxy.query.descriptions import Descriptions
from oda_proxy.query.nearest import shorten
from oda_proxy.query.resolved import QueryResolver
from oda_proxy.recordings import failures
from oda_proxy.run.listeners import doors, public_description
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.memory import MemoryStore
from oda_proxy.store.near_misses import NearMissHandler
from oda_proxy.upstream.description_cache import DescriptionCache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from oda_proxy.capsule.capsule import Capsule, DispatcherCapsule
    from oda_proxy.capsule.exchange import Exchange
    from oda_proxy.http.message import Request
    from oda_proxy.query.cache_key import Key
    from oda_proxy.query.query import Envelope, Query, Token
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.recordings.failures import Failure
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.run.forward_proxy import ForwardedRequest
    from oda_proxy.run.listeners import Listeners, Opening
    from oda_proxy.store.base import Store
    from oda_proxy.store.near_misses import MissHandler

IN_MEMORY = 256 * 1024 * 1024
"""Bytes of a capsule that is read into memory; a larger one is unpacked into a temporary folder."""

_FOR_EVER = float("inf")


class NotInCapsuleError(OdaProxyError):
    """What was asked of another server is not in the capsule."""

    http_status = 403  # programs do not try again
    word = "not-in-capsule"


@dataclass(slots=True)
class CapsuleItem:
    """Something in a capsule that a command may ask for, in a line for a person, and how often it did."""

    about: str
    uses: int = 0


class Replayer:
    """Answers a command from a capsule."""

    doors: Listeners

    def __init__(self, capsule: Capsule, *, time_scale: float) -> None:
        """Take a capsule, and how long jobs take: 1 as they did, 0 no time."""
        self.capsule = capsule
        self.things: list[CapsuleItem] = []
        self.missed: Counter[str] = Counter()
        """What was asked for in vain, in a line for a person, and how often."""
        self._policy = Policy(description_ttl=_FOR_EVER, jobs=JobPolicy(time_scale=time_scale))
        self._proxies: dict[str, Proxy] = {}
        self._only: Proxy | None = None
        self._pages: defaultdict[str, list[tuple[Exchange, CapsuleItem]]] = defaultdict(list)

    @property
    def used(self) -> tuple[str, ...]:
        """What was asked for."""
        return tuple(thing.about for thing in self.things if thing.uses)

    @property
    def unused(self) -> tuple[str, ...]:
        """What was not asked for."""
        return tuple(thing.about for thing in self.things if not thing.uses)

    async def load(self, stack: AsyncExitStack) -> None:
        """Read the capsule; what has to be closed afterwards is put on `stack`. Raises CapsuleError."""
        large = await asyncio.to_thread(_size, self.capsule.folder) > IN_MEMORY
        for dispatcher in self.capsule.dispatchers:
            store: Store = MemoryStore()
            if large:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="oda-proxy-"))
                store = stack.enter_context(closing(DiskStore(Path(folder))))
            proxy = await self._loaded(dispatcher, store)
            stack.push_async_callback(proxy.close)
            self._proxies |= dict.fromkeys((dispatcher.url, *dispatcher.addresses), proxy)
        if len(self.capsule.dispatchers) == 1:
            self._only = proxy
        for document, body in await asyncio.to_thread(lambda: list(self.capsule.exchanges())):
            try:
                page = exchange.from_json(json.dumps(document).encode("ascii"), body)
            except exchange.ExchangeError as error:
                raise CapsuleError(self.capsule.folder / "exchanges", str(error)) from None
            self._pages[page.url].append((page, self._thing(f"GET {_shown(page.url)}")))

    async def dispatcher(self, address: str | None, request: Request, *, origin: str) -> Answer:
        """Answer a request to a dispatcher from what was recorded of it."""
        found = self._only or self._proxies.get(PRODUCTION) if address is None else self._proxies.get(address)
        proxy = found or self._unknown(address)
        answer = await proxy.answer(public_description(request) or request, origin=origin)
        if answer.cache_status.detail == NoRecordingError.detail and not request.path.endswith("/run_analysis"):
            # The address of our own door is another one each time.
            question = f"?{request.query_string}" if request.query_string else ""
            what = f"{'' if address is None else origin}{request.path}{question}"
            self.missed[f"{request.method} {_shown(what)}: not recorded" if found else self._nothing_of(address)] += 1
        return answer

    async def elsewhere(self, asked: ForwardedRequest) -> Answer:
        """Answer what was asked of another server as it was answered. Raises NotInCapsuleError."""
        for page, thing in self._pages.get(asked.url, ()):
            if page.is_for(asked.request.method, asked.url, asked.request.headers):
                thing.uses += 1
                return page.answer(CacheStatus(hit=True))
        what = f"{asked.request.method} {_shown(asked.url)}"
        self.missed[f"{what}: not in the capsule"] += 1
        raise NotInCapsuleError(f"offline: {what} is not in the capsule, and a replay asks nobody")

    def _unknown(self, address: str | None) -> Proxy:
        """Make what answers for a dispatcher of which nothing is known."""
        nothing = _NothingOf(self._nothing_of(address))
        services = Services(miss_handler=nothing, observer=_Watching({}, self.missed))
        return Proxy(MemoryStore(), None, self._policy, services=services)

    def _nothing_of(self, address: str | None) -> str:
        """Say that nothing is known of a dispatcher."""
        known = ", ".join(dispatcher.url for dispatcher in self.capsule.dispatchers) or "no dispatcher"
        return f"offline: the capsule is of {known}, and has nothing of {address or PRODUCTION}"

    async def _loaded(self, dispatcher: DispatcherCapsule, store: Store) -> Proxy:
        """Make a proxy over what was recorded of a dispatcher, under the keys that the same questions have today."""
        instruments = Descriptions(None, dispatcher.folder, ttl=_FOR_EVER, clock=time.monotonic)
        resolver = QueryResolver(instruments)
        things: dict[Key, CapsuleItem] = {}
        recordings = dispatcher.recordings()
        while (recording := await asyncio.to_thread(next, recordings, None)) is not None:
            key = (await resolver.resolve(recording.query)).key if recording.query else recording.key
            # Whoever has the capsule may see what is in it.
            await asyncio.to_thread(store.put, replace(recording, key=key, private=False))
            things[key] = self._thing(_about(recording.query))
        failed: dict[Key, Failure] = {}
        for failure in dispatcher.failures.values():
            key = (await resolver.resolve(failure.query)).key if failure.query else failure.key
            failed[key] = failure
            things[key] = self._thing(f"{_about(failure.query)}, which failed")
        services = Services(
            instruments=instruments,
            tokens=_Anybody(),
            description_cache=DescriptionCache(_FOR_EVER, time.time, dispatcher.folder),
            observer=_Watching(things, self.missed),
            miss_handler=_Failed(failed, things, dispatcher.url, NearMissHandler(store)),
        )
        return Proxy(store, None, self._policy, services=services)

    def _thing(self, about: str) -> CapsuleItem:
        self.things.append(thing := CapsuleItem(about))
        return thing


@asynccontextmanager
async def replaying(folder: Path, *, time_scale: float = 0.0, doors: Opening = doors) -> AsyncIterator[Replayer]:
    """Replay the capsule in `folder`, through the replayer's doors, until the block ends.

    Nothing leaves this machine. `time_scale` is how long jobs take: 1 as they did, 0 no time. `doors` says which doors
    to open. Raises CapsuleError, which names the file, and ListenError.
    """
    replayer = Replayer(await asyncio.to_thread(open_capsule, folder), time_scale=time_scale)
    async with AsyncExitStack() as stack:
        await replayer.load(stack)
        replayer.doors = await stack.enter_async_context(doors(replayer))
        yield replayer


class _Anybody(TokenVerifier):
    """Takes any token, expired or not, for none: whoever has the capsule may see what is in it."""

    def __init__(self) -> None:
        super().__init__(Sharing.TEAM, secret_key=None, trust=0.0, clock=time.time)

    def audience(self, token: Token | None) -> str:  # noqa: ARG002 - whatever it is
        """Name everybody."""
        return PUBLIC

    def is_verified(self, token: Token | None) -> bool:  # noqa: ARG002 - as above
        """Tell that a token claims nothing."""
        return True

    def check(self, token: Token | None) -> None:
        """Refuse none."""


class _Watching:
    """Counts what is used and what is missed."""

    def __init__(self, things: Mapping[Key, CapsuleItem], missed: Counter[str]) -> None:
        self._things = things
        self._missed = missed

    async def stored(self, recording: Recording) -> None:
        """Do nothing: what is replayed is kept already."""

    async def served(self, recording: Recording) -> None:
        """Count a recording."""
        self._things[recording.key].uses += 1

    async def failed(self, resolved: ResolvedQuery, failure: Failure | None) -> None:
        """Do nothing: nobody is asked, and nobody fails."""

    async def missed(self, resolved: ResolvedQuery, message: str) -> None:  # noqa: ARG002 - the message says what was asked
        """Count what was not recorded."""
        self._missed[message] += 1


class _Failed:
    """Has a job fail that failed when it was recorded."""

    def __init__(
        self, failed: Mapping[Key, Failure], things: Mapping[Key, CapsuleItem], address: str, otherwise: MissHandler
    ) -> None:
        self._failed = failed
        self._things = things
        self._address = address
        self._otherwise = otherwise

    async def answer(self, resolved: ResolvedQuery, envelope: Envelope) -> Answer:
        """Give the failure of a question. Raises NoRecordingError, with the nearest recording, where there is none."""
        failure = self._failed.get(resolved.key)
        if failure is None:
            return await self._otherwise.answer(resolved, envelope)
        self._things[resolved.key].uses += 1
        body = failures.render(failure, envelope, now=time.time(), address=self._address)
        told = (("Content-Type", failure.content_type), ("Content-Length", str(len(body))))
        return Answer(failure.status, told, (body,), CacheStatus(hit=True, detail="failed"))


@dataclass(frozen=True, slots=True)
class _NothingOf:
    """Says of every question that nothing is known of the dispatcher."""

    message: str

    async def answer(self, resolved: ResolvedQuery, envelope: Envelope) -> NoReturn:  # noqa: ARG002 - whatever it is
        """Raise NoRecordingError."""
        raise NoRecordingError(self.message)


def _about(query: Query | None) -> str:
    """Say in a line what was asked."""
    if query is None:
        return "a query that is not known"
    asked = ", ".join(f"{shorten(name)}={shorten(' '.join(values))}" for name, values in query.parameters)
    return f"{shorten(query.instrument)} {shorten(query.product_type)} ({asked})"


def _shown(url: str) -> str:
    """Show an address, without what follows the question mark where that may hold a secret."""
    if exchange.names_a_secret(url):
        url = url.partition("?")[0]
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in url)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
