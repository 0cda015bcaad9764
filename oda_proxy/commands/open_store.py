"""Opening the store that a command works on, and finding a recording in it by the beginning of its key."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from oda_proxy.config import cache_folder
from oda_proxy.errors import OdaProxyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry, Store
    from oda_proxy.store.disk import DiskStore


class UnknownKeyError(OdaProxyError):
    """A key names no recording, or several."""

    def __init__(self, key: str, found: int) -> None:
        what = f"{found} keys begin" if found else "no recording has a key that begins"
        super().__init__(f"{what} with {key!r}; see oda-proxy ls")


class NoStoreError(OdaProxyError):
    """There is no store where one is looked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"nothing was recorded in {folder}; say --upstream and --cache-dir as for oda-proxy serve")


@contextmanager
def opened(upstream: str, cache_dir: Path | None, *, make: bool = False) -> Iterator[DiskStore]:
    """Open the store for a dispatcher's address. Raises NoStoreError where there is none and none is to be made."""
    with opened_folder(cache_folder(cache_dir, upstream), make=make) as store:
        yield store


@contextmanager
def opened_folder(folder: Path, *, make: bool = False) -> Iterator[DiskStore]:
    """Open the store in a folder. Raises NoStoreError where there is none and none is to be made."""
    from oda_proxy.store.disk import DiskStore  # with SQLite and zstandard: not for commands that need no store

    if not make and not (folder / "index").is_dir():
        raise NoStoreError(folder)
    with closing(DiskStore(folder, track_use=False)) as store:
        yield store


def find(store: Store, beginnings: Sequence[str]) -> list[Entry]:
    """Find recordings by the beginnings of their keys, all or none. Raises UnknownKeyError."""
    keys = list(store.keys())
    return [_one(store, keys, beginning) for beginning in beginnings]


@contextmanager
def reading(store: Store, key: Key) -> Iterator[Recording]:
    """Open a recording. Raises UnknownKeyError where it is damaged, and gone."""
    recording = store.get(key)
    if recording is None:
        raise UnknownKeyError(key, 0)
    with closing(recording.head):
        yield recording


def described(entry: Entry) -> dict[str, Any]:
    """Give an entry as JSON; times are in s since 1970 (UTC), sizes in bytes, the cost in s."""
    told = asdict(entry)
    told["query"] = query = told.pop("query")
    if query is not None:
        query["parameters"] = {name: list(values) for name, values in query["parameters"]}
        query["files"] = dict(query["files"])
    return told


def _one(store: Store, keys: Sequence[Key], beginning: str) -> Entry:
    found = [key for key in keys if beginning and key.startswith(beginning.casefold())]
    entry = store.entry(found[0]) if len(found) == 1 else None
    if entry is None:
        raise UnknownKeyError(beginning, len(found))
    return entry
