"""Opens the store that `--store URL` names."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store.history_limits import HistoryLimits
from oda_proxy.store.objects.folder import FolderBodies
from oda_proxy.store.redis.address import FolderAddress, TlsFiles
from oda_proxy.store.redis.clients import require_library, sync_client
from oda_proxy.store.redis.keyspace import Keyspace, folder_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from oda_proxy.store.base import ManagedStore
    from oda_proxy.store.objects.bodies import Bodies
    from oda_proxy.store.redis.address import BucketAddress, RedisAddress, StoreAddress
    from oda_proxy.store.redis.collections import RedisCollections
    from oda_proxy.store.redis.store import RedisStore


def open_store(
    address: StoreAddress,
    upstream: str,
    *,
    follow: bool = False,
    spool: Path | None = None,
    clock: Callable[[], float] = time.time,
    track_use: bool = True,
    history: HistoryLimits = HistoryLimits(),  # noqa: B008 - frozen
) -> RedisStore:
    """Open the store of a dispatcher, and check that it can be used.

    With `follow`, its version is followed in a thread, as a server needs it. In the folder `spool`, recordings wait
    while the store is away. `clock` returns s since 1970 (UTC).
    Raises StoreUnusableError where it cannot be used, OdaProxyError where a library is missing.
    """
    require_library()  # before the imports that need it
    from oda_proxy.store.redis.index import RedisIndex
    from oda_proxy.store.redis.medium_errors import translated, translated_bodies
    from oda_proxy.store.redis.pairing import check_pair
    from oda_proxy.store.redis.probing import check_server
    from oda_proxy.store.redis.store import RedisStore
    from oda_proxy.store.redis.watcher import ChangeWatcher

    keys = Keyspace.of(upstream)
    _check_files(address.redis)
    with translated(address.redis):
        client = sync_client(address.redis)
        if follow:
            check_server(client, address.redis, keys)
    with translated_bodies(address.bodies):
        bodies = _bodies(address.bodies, upstream)
    index = RedisIndex(client, keys)

    def pair() -> None:
        with translated(address.redis), translated_bodies(address.bodies):
            index.name = check_pair(client, keys, bodies, address)

    pair()
    watcher = ChangeWatcher(index) if follow else None
    parts = (address, index, bodies, watcher, pair)
    if spool is None:
        store = RedisStore(*parts, clock=clock, track_use=track_use, history=history)
    else:
        from oda_proxy.store.redis.spooling import SpoolingStore  # imports SQLite

        store = SpoolingStore(*parts, folder=spool, clock=clock, track_use=track_use, history=history)
    store.probe()
    return store


def open_stores(
    address: StoreAddress,
    upstreams: Sequence[str],
    *,
    follow: bool = False,
    spool: Path | None = None,
    track_use: bool = True,
    history: HistoryLimits = HistoryLimits(),  # noqa: B008 - frozen
) -> ManagedStore:
    """Open the store of a dispatcher, the first of `upstreams`, and those of its former addresses as one.

    The arguments and errors are those of `open_store`.
    """
    from oda_proxy.store.combined import CombinedStore

    with ExitStack() as stack:
        first, *others = [
            stack.enter_context(
                closing(
                    open_store(
                        address,
                        one,
                        follow=follow,
                        spool=None if number else spool,
                        track_use=track_use,
                        history=history,
                    )
                )
            )
            for number, one in enumerate(upstreams)
        ]
        stack.pop_all()
    return CombinedStore(first, others) if others else first


def open_collections(
    address: StoreAddress, upstream: str, clock: Callable[[], float], *, max_size: int | None = None
) -> RedisCollections:
    """Open the collections of a dispatcher; `max_size` is as for RedisCollections. Raises OdaProxyError."""
    require_library()  # before the imports that need it
    from oda_proxy.store.redis.collections import RedisCollections
    from oda_proxy.store.redis.medium_errors import translated

    _check_files(address.redis)
    with translated(address.redis):
        client = sync_client(address.redis)
    return RedisCollections(address.redis, client, Keyspace.of(upstream), clock, max_size=max_size)


def _check_files(address: RedisAddress) -> None:
    """Check that the files for TLS can be read. Raises StoreUnusableError."""
    files = {} if address.tls is None else {name: getattr(address.tls, name) for name in TlsFiles.__slots__}
    for name, file in files.items():
        try:
            if file is not None:
                file.open("rb").close()
        except OSError as error:
            problem = f"ssl_{name}={file} cannot be read ({error.strerror})"
            raise StoreUnusableError(str(address), problem, "correct it in --store") from error


def _bodies(address: FolderAddress | BucketAddress, upstream: str) -> Bodies:
    """Return the place for the heads of a dispatcher, which has a folder of its own, as on disk."""
    name = folder_of(upstream)
    if isinstance(address, FolderAddress):
        return FolderBodies(address.folder / name)
    from oda_proxy.store.objects.bucket import BucketBodies  # imports obstore

    return BucketBodies(address, name)
