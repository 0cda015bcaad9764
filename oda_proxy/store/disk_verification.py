"""Checks everything in the folder of a store: recordings, earlier versions, heads, counters and secondary indexes."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import zstandard

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store import counters, disk_versions, index_keys, rows, secondary_index, version_times
from oda_proxy.store.base import Fault
from oda_proxy.store.counters import DAMAGE
from oda_proxy.store.index import INDEX, check
from oda_proxy.store.index_keys import references_key
from oda_proxy.store.medium_errors import reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.index import Index
    from oda_proxy.store.read_only_index import ReadOnlyIndex
    from oda_proxy.store.store_folder import StoreFolder

PENDING_AGE = 3600.0
"""Age, in s, from which a head under a temporary name is that of a crashed writer."""


def verify(folder: StoreFolder, *, now: float, fix: bool, checked: Callable[[], None]) -> Iterator[Fault]:
    """Check everything and report faults; with `fix`, remove what is damaged. Each recording calls `checked`.

    Removed are damaged recordings and orphaned files; a damaged index is replaced. What cannot be read, or has a wrong
    time, is reported and stays, and recordings of other releases are left alone.
    """
    with folder.translated_errors():
        fault = check(folder.path) if (folder.path / INDEX).is_dir() else ""
    if fault:
        yield Fault("index", fault)
        if not fix:
            return
        folder.replace_index()
    for key in _keys(folder):
        yield from _verify_recording(folder, key, fix=fix)
        checked()
    yield from _verify_versions(folder, fix=fix, checked=checked)
    yield from _wrong_times(folder, now)
    for name, error in orphans(folder, now=now, remove=fix):
        cause = f", and cannot be removed: {error.strerror or error}" if error else ""
        yield Fault(name, f"a crashed writer left it{cause}")
    with folder.open_index() as index:
        with index.snapshot():
            miscounted = _differences(index)
        if fix and miscounted:
            with index.writing() as writable:
                counters.restore(writable)
                if not secondary_index.is_correct(writable):
                    secondary_index.rebuild(writable)
    yield from miscounted


def _keys(folder: StoreFolder) -> Iterator[Key]:
    with folder.open_index() as index:
        yield from index_keys.recording_keys(index)


def orphans(folder: StoreFolder, *, now: float, remove: bool) -> Iterator[tuple[str, OSError | None]]:
    """Iterate over the names of files that belong to no recording; with `remove`, remove them.

    With each is the error where it cannot be removed, or a folder cannot be read.
    """
    with folder.open_index() as index:
        for file in folder.heads.pending(before=now - PENDING_AGE):
            yield file.name, _unlink(file) if remove else None
        for name, error in folder.heads.names():
            if error is not None:
                yield name, error
            elif references_key(name) not in index:
                try:
                    if not remove or folder.unlink_orphan(index, name):
                        yield name, None
                except OSError as failure:
                    yield name, failure


def _verify_recording(folder: StoreFolder, key: Key, *, fix: bool) -> Iterator[Fault]:
    """Check one recording to its end."""
    with folder.open_index() as index:
        row_key: str = key
        text: str | None = None
        try:
            row_key, text = index_keys.find_row(index, key)
            if text is None:
                return  # it was removed meanwhile, or belongs to another release
            row = rows.loads(key, text)
            with closing(folder.heads.open(row.head, is_thorough=True)) as head:
                row.recording(head)
                for _ in head.pieces():
                    pass
        except (*DAMAGE, zstandard.ZstdError, StoreUnusableError) as error:
            yield Fault(key, reason(error))
            if fix:
                folder.remove_damaged(index, row_key, text)
        except OSError as error:
            yield Fault(key, f"its head cannot be read: {error.strerror or error}")


def _verify_versions(folder: StoreFolder, *, fix: bool, checked: Callable[[], None]) -> Iterator[Fault]:
    """Check the earlier versions to their end."""
    with folder.open_index() as index:
        for row_key, key, text in list(index_keys.version_rows(index)):
            fault = None
            try:
                row = rows.loads_version(key, text)
                with closing(folder.heads.open(row.head, is_thorough=True)) as head:
                    row.recording(head)
                    for _ in head.pieces():
                        pass
            except (*DAMAGE, zstandard.ZstdError, StoreUnusableError) as error:
                if counters.text(index, row_key) == text:  # it was not removed meanwhile
                    fault = Fault(key, f"an earlier version is damaged: {reason(error)}")
                    if fix:
                        folder.remove_damaged(index, row_key, text)
            except OSError as error:
                fault = Fault(key, f"the head of an earlier version cannot be read: {error.strerror or error}")
            if fault:
                yield fault
            checked()


def _wrong_times(folder: StoreFolder, now: float) -> Iterator[Fault]:
    """Report times of versions that cannot be: a clock was wrong. They stay, and answer."""
    with folder.open_index() as index:
        keys = dict.fromkeys(
            [*index_keys.recording_keys(index), *(key for _, key, _ in index_keys.version_rows(index))]
        )
        for key in keys:
            current = counters.row(index, index_keys.find_row_unchecked(index, key)[0])
            times = [(one.valid_from, one.valid_until) for one in disk_versions.versions(index, key)]
            times += [] if current is None else [(current.valid_from, None)]
            yield from version_times.faults(key, times, now)


def _differences(index: Index | ReadOnlyIndex) -> list[Fault]:
    """Return the faults of counters, of metadata, and of secondary indexes."""
    found = [Fault(*one) for one in counters.differences(index)]
    if not secondary_index.is_correct(index):
        found.append(Fault("index", "its secondary indexes do not agree with its rows"))
    return found


def _unlink(file: Path) -> OSError | None:
    """Remove a file; return the error where that fails."""
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        return error
    return None
