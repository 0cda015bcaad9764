"""Access of commands to a store and its recordings."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from oda_proxy.config.folders import cache_folder, former_folders
from oda_proxy.errors import OdaProxyError
from oda_proxy.query.message_text import printable
from oda_proxy.store.selection import UnknownKeyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oda_proxy.config.settings import StoreOptions
    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import ManagedStore, Store
    from oda_proxy.store.disk import DiskStore


_MOST_NAMED: Final = 5


class NoStoreError(OdaProxyError):
    """A folder holds no store."""

    def __init__(self, folder: Path) -> None:
        others = f", but beside it those of {', '.join(urls)}" if (urls := _other_upstreams(folder)) else ""
        super().__init__(
            f"there are no recordings in {folder}{others}; use --upstream and --cache-dir as for oda-proxy serve"
        )


@contextmanager
def open_store(options: StoreOptions, *, create: bool = False) -> Iterator[ManagedStore]:
    """Open the store of a dispatcher, with the recordings of its former addresses.

    Raises NoStoreError if there are no recordings of any of its addresses, unless `create`.
    """
    if options.store is not None:
        from oda_proxy.store.redis import opening

        upstreams = [options.upstream, *options.former_url]
        with closing(opening.open_stores(options.store, upstreams, track_use=False)) as shared:
            yield shared
        return
    from oda_proxy.store.combined import open_stores  # imports SQLite and zstandard

    folder = cache_folder(options.cache_dir, options.upstream)
    folders = [folder, *former_folders(options.cache_dir, options.upstream, options.former_url)]
    if not create:
        folders = list(filter(_holds_store, folders))
    if not folders:
        raise NoStoreError(folder)
    with closing(open_stores(folders[0], folders[1:], track_use=False)) as store:
        yield store


@contextmanager
def open_store_in(folder: Path) -> Iterator[DiskStore]:
    """Open the store in a folder. Raises NoStoreError if it does not exist."""
    from oda_proxy.store.disk import DiskStore  # imports SQLite and zstandard

    check_store(folder)
    with closing(DiskStore(folder, track_use=False)) as store:
        yield store


def check_store(folder: Path) -> None:
    """Raise NoStoreError if a folder holds no store."""
    if not _holds_store(folder):
        raise NoStoreError(folder)


def _other_upstreams(folder: Path) -> list[str]:
    """Return the URLs of dispatchers, at most five, whose recordings are beside this folder."""
    try:
        stores = sorted(one.name for one in folder.parent.iterdir() if "%3A" in one.name and _holds_store(one))
    except OSError:
        return []
    return [printable(unquote(name)) for name in stores[:_MOST_NAMED]]


def _holds_store(folder: Path) -> bool:
    return (folder / "index").is_dir()


@contextmanager
def open_recording(store: Store, key: Key) -> Iterator[Recording]:
    """Open a recording. Raises UnknownKeyError if it is damaged, and so removed."""
    recording = store.get(key)
    if recording is None:
        raise UnknownKeyError(key, 0)
    with closing(recording.head):
        yield recording
