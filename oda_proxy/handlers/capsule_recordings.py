"""Recordings of capsules, which answer before those of the store, and never change."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from oda_proxy.capsule.capsule import open_capsule
from oda_proxy.errors import OdaProxyError, UsageError
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.query.descriptions import Descriptions
from oda_proxy.query.resolved import QueryResolver

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from oda_proxy.capsule.capsule import DispatcherCapsule
    from oda_proxy.query.cache_key import Key
    from oda_proxy.query.query import Query
    from oda_proxy.recordings.failures import Failure
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Store

CAPSULE: Final = CacheStatus(hit=True, detail="capsule")
"""The cache status of an answer from a capsule."""

_log = logging.getLogger(__name__)


class MakeStore(Protocol):
    """Makes a store for the recordings of a capsule of `size` bytes, which is closed with a stack."""

    def __call__(self, size: int, stack: AsyncExitStack) -> Store:
        """Return the store."""


@dataclass(frozen=True, slots=True)
class LoadedCapsule:
    """What was recorded of a dispatcher, under the keys that its queries have with the descriptions of the capsule."""

    path: Path
    store: Store
    resolver: QueryResolver
    recordings: int
    descriptions: Path
    """The folder with its descriptions."""
    url: str
    """The address of the dispatcher."""
    failures: Mapping[Key, Failure]

    async def find(self, query: Query) -> Recording | None:
        """Return the recording of a query: everyone with access to the server may read everything in the capsule."""
        resolved = await self.resolver.resolve(query)
        return await asyncio.to_thread(self.store.peek, resolved.key)

    async def find_failure(self, query: Query) -> Failure | None:
        """Return the failure of a query."""
        return self.failures.get((await self.resolver.resolve(query)).key) if self.failures else None


class CapsuleRecordings:
    """The recordings of the capsules that a server serves; of several, the first that has one answers."""

    def __init__(self, urls: Collection[str] = (), make_store: MakeStore | None = None) -> None:
        """Serve what was recorded of a dispatcher at one of these addresses; of any dispatcher without them."""
        self.capsules: tuple[LoadedCapsule, ...] = ()
        self._urls = {url.rstrip("/") for url in urls}
        self._make_store = make_store
        self._open = AsyncExitStack()
        self._replaced = AsyncExitStack()
        self._reload: asyncio.Task[None] | None = None

    async def find(self, query: Query) -> Recording | None:
        """Return the recording of a query, or None."""
        for capsule in self.capsules:
            if recording := await capsule.find(query):
                return recording
        return None

    async def find_failure(self, query: Query) -> tuple[Failure, str] | None:
        """Return the failure of a query, and the address of its dispatcher, from the first capsule that has one."""
        for capsule in self.capsules:
            if failure := await capsule.find_failure(query):
                return failure, capsule.url
        return None

    async def load(self, paths: Sequence[Path], *, requires_match: bool = True) -> None:
        """Read capsules, in place of those that were read before.

        Raises CapsuleError, and UsageError where one is of another dispatcher and `requires_match`; then all stays as
        it was.
        """
        async with AsyncExitStack() as stack:
            loaded: list[LoadedCapsule] = []
            for path in paths:
                found = await self._load(path, stack)
                if not found and requires_match:
                    raise UsageError(
                        f"the capsule {path} is not of {', '.join(sorted(self._urls))}; choose its dispatcher with "
                        "--upstream, or name a former address with --former-url"
                    )
                loaded += found
            self.capsules = tuple(loaded)
            await self._replaced.aclose()  # nobody reads any more from those before the last ones
            self._replaced, self._open = self._open, stack.pop_all()
        await asyncio.to_thread(self._log_loaded)

    def reload(self, paths: Sequence[Path], *, requires_match: bool = True) -> None:
        """Read capsules again in the background; where that fails, all stays as it was."""

        async def load() -> None:
            try:
                await self.load(paths, requires_match=requires_match)
            except (OdaProxyError, OSError) as error:
                _log.warning("the capsules stay as they were: %s", error)

        if self._reload is not None:
            self._reload.cancel()
        self._reload = asyncio.create_task(load())

    async def close(self) -> None:
        """Close all capsules."""
        if self._reload is not None:
            self._reload.cancel()
            await asyncio.gather(self._reload, return_exceptions=True)
        await self._replaced.aclose()
        await self._open.aclose()

    def _log_loaded(self) -> None:
        """Log what each capsule has, and how many of its recordings an earlier one answers instead. Blocks."""
        taken: dict[Key, Path] = {}
        for capsule in self.capsules:
            _log.info("serving %d recordings of the capsule %s", capsule.recordings, capsule.path)
            keys = list(capsule.store.keys())
            if double := [taken[key] for key in keys if key in taken]:
                first = ", ".join(sorted({str(path) for path in double}))
                _log.warning("%d of the recordings of %s are answered from %s", len(double), capsule.path, first)
            taken = dict.fromkeys(keys, capsule.path) | taken

    async def _load(self, path: Path, stack: AsyncExitStack) -> list[LoadedCapsule]:
        """Read the recordings of the dispatchers of a capsule that are at one of our addresses."""
        capsule = await asyncio.to_thread(open_capsule, path)
        stack.enter_context(closing(capsule))
        loaded = []
        for dispatcher in capsule.dispatchers:
            addresses = {address.rstrip("/") for address in (dispatcher.url, *dispatcher.addresses)}
            if not self._urls or self._urls & addresses:
                assert self._make_store is not None  # noqa: S101 - for the type checker
                store = self._make_store(capsule.tree.size, stack)
                loaded.append(await _loaded(path, dispatcher, store))
        return loaded


async def _loaded(path: Path, dispatcher: DispatcherCapsule, store: Store) -> LoadedCapsule:
    descriptions = Descriptions(None, dispatcher.folder, ttl=math.inf, clock=time.monotonic)
    resolver, number = QueryResolver(descriptions), 0
    recordings = dispatcher.recordings()
    while (recording := await asyncio.to_thread(next, recordings, None)) is not None:
        key = (await resolver.resolve(recording.query)).key if recording.query else recording.key
        await asyncio.to_thread(store.put, replace(recording, key=key, private=False))
        number += 1
    failures = {
        (await resolver.resolve(failure.query)).key if failure.query else key: failure
        for key, failure in dispatcher.failures.items()
    }
    return LoadedCapsule(path, store, resolver, number, dispatcher.folder, dispatcher.url, failures)
