"""Import of fixtures and capsules into a store: each fixture becomes a recording."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from oda_proxy.capsule import capsule
from oda_proxy.capsule.conversion import recording_from_fixture
from oda_proxy.capsule.source_folder import is_capsule
from oda_proxy.errors import OdaProxyError, UsageError
from oda_proxy.fixture.reading import DEFAULT_LIMITS, Limits, open_folder
from oda_proxy.query.cache_key import key_of
from oda_proxy.query.descriptions import Descriptions
from oda_proxy.query.resolved import QueryResolver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from oda_proxy.files.trees import FileTree
    from oda_proxy.fixture.reading import Fixture
    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Store

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Source:
    """A fixture, and the descriptions of instruments of its capsule."""

    fixture: Fixture
    descriptions: Descriptions | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a fixture: the key of its recording, or why it was not stored."""

    path: str
    key: Key | None = None
    error: str = field(default="")


def sources_in(tree: FileTree, urls: Sequence[str], *, limits: Limits = DEFAULT_LIMITS) -> list[Source]:
    """Return the fixtures of a tree, or those of a capsule that are of a dispatcher with one of these URLs.

    Blocks. Raises NotASourceError, FixtureError, CapsuleError, and UsageError where the capsule is of another
    dispatcher.
    """
    if not is_capsule(tree):
        return [Source(one) for one in open_folder(tree, limits=limits).fixtures]
    opened = capsule.open_capsule(tree)
    addresses = {url.rstrip("/") for url in urls}
    found = [one for one in opened.dispatchers if one.url.rstrip("/") in addresses]
    if not found:
        others = ", ".join(one.url for one in opened.dispatchers) or "no dispatcher"
        raise UsageError(
            f"the capsule {tree.path} is from {others}, not from {urls[0]}; choose one with --upstream, or name a "
            "former address of the dispatcher with --former-url"
        )
    return [Source(one, stored_descriptions(dispatcher.folder)) for dispatcher in found for one in dispatcher.fixtures]


def stored_descriptions(folder: Path) -> Descriptions:
    """Return the descriptions that are stored in a folder."""
    return Descriptions(None, folder, ttl=math.inf, clock=time.monotonic)


class Run(Protocol):
    """Calls a function that blocks, as `asyncio.to_thread` does."""

    async def __call__(self, function: Callable[..., _T], /, *args: Any, **keywords: Any) -> _T:
        """Return what the function returns."""


async def run_here(function: Callable[..., _T], /, *args: Any, **keywords: Any) -> _T:
    """Call a function in this thread: for a command, which closes the store in the thread that has used it."""
    return function(*args, **keywords)


async def import_all(
    sources: Sequence[Source], store: Store, own: Descriptions, *, run: Run = asyncio.to_thread
) -> AsyncIterator[Imported]:
    """Store fixtures as recordings, one after the other, and their descriptions as earlier ones in `own`."""
    for source in sources:
        path = source.fixture.path
        try:
            recording = await run(recording_from_fixture, source.fixture, now=time.time())
            recording = await _with_public_key(recording, own, source.descriptions)
            await run(store.put, recording)
        except OdaProxyError as error:
            yield Imported(path, error=str(error))
        else:
            yield Imported(path, recording.key)


async def _with_public_key(recording: Recording, own: Descriptions, added: Descriptions | None) -> Recording:
    """Return a recording with the key under which its query finds it, without a token.

    Its query is read with the description of its time: in `added`, which are then stored as earlier descriptions, or
    else with the newest in `own`, unless the dispatcher's echo contradicts that. Without any, values count as they were
    sent.
    """
    query = recording.query
    if query is None:
        return recording
    if added:
        await own.add_earlier(added, query.instrument)
    resolved = await QueryResolver(added or own).resolve(query)
    keys = [key_of(query, schema) for schema in resolved.schemas]
    if recording.key in keys:
        key = recording.key
    else:
        key = resolved.key if await resolved.is_confirmed_by(recording.parameters) else key_of(query)
    return replace(recording, key=key, private=False)
