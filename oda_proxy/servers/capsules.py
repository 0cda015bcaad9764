"""The capsules that a server serves before the recordings of its store."""

from __future__ import annotations

from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from oda_proxy.files.temporary import TemporaryFolder

if TYPE_CHECKING:
    from oda_proxy.config.settings import ServeOptions
    from oda_proxy.handlers.capsule_recordings import CapsuleRecordings
    from oda_proxy.store.base import Store

MAX_IN_MEMORY: Final = 16 * 2**20
"""Bytes of a capsule whose recordings are read into memory; those of a larger one are in a temporary folder."""


async def open_capsules(options: ServeOptions, stack: AsyncExitStack) -> CapsuleRecordings:
    """Return the recordings of the capsules in the options, which are closed with the stack.

    Raises CapsuleError and UsageError.
    """
    from oda_proxy.handlers.capsule_recordings import CapsuleRecordings

    urls = () if options.mock else (options.upstream, *options.former_url)
    capsules = CapsuleRecordings(urls, _make_store)
    stack.push_async_callback(capsules.close)
    if options.capsule:
        await capsules.load(options.capsule, requires_match=not options.name)
    return capsules


def _make_store(size: int, stack: AsyncExitStack) -> Store:
    from oda_proxy.store.disk import DiskStore
    from oda_proxy.store.memory import MemoryStore

    if size <= MAX_IN_MEMORY:
        return MemoryStore()
    folder = stack.enter_context(TemporaryFolder("capsule"))
    return stack.enter_context(closing(DiskStore(Path(folder))))
