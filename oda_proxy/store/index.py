"""The index of a store on disk: diskcache, with text as keys and values.

diskcache pickles other types. Here that is refused, on reading and on writing: otherwise whoever can write to the
folder could run code in this process.
"""

from __future__ import annotations

import fcntl
import logging
import sqlite3
from contextlib import closing, contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING, Any

import diskcache
from diskcache.core import DBNAME, MODE_PICKLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_log = logging.getLogger(__name__)

INDEX = "index"

_LOCK_TIMEOUT = 30.0
"""How long, in s, to wait for another process that writes."""

_MAX_INDEX_SIZE = 2**40
"""Bytes above which diskcache evicts by itself: never reached."""

_MAX_ROW_SIZE = 2**30
"""Bytes above which diskcache writes a row to a file of its own, without flushing it: never reached."""


class _TextOnly(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """The serialisation of diskcache, without pickle."""

    def put(self, key: object) -> tuple[Any, bool]:
        """Write a key, which must be text."""
        if not isinstance(key, str):
            raise TypeError(f"a key must be text, not {type(key).__name__}")
        return key, True

    def get(self, key: Any, raw: Any) -> str:
        """Read a key; one that is not text, or pickled, is not loaded and becomes an empty text."""
        return key if raw and isinstance(key, str) else ""

    def store(self, value: object, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        """Write a value, which must be text."""
        if read or not isinstance(value, str):
            raise TypeError(f"a value must be text, not {type(value).__name__}")
        return super().store(value, read, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        """Read a value; raises ValueError for a pickled one, without loading it."""
        if mode == MODE_PICKLE:
            raise ValueError("the index holds a pickled value")
        return super().fetch(mode, filename, value, read)


def is_damage(error: BaseException) -> bool:
    """Return whether an error means that the database is damaged, and not only unusable at the moment."""
    return type(error) is sqlite3.DatabaseError  # its subclasses are about locks, space and permissions


def open_index(folder: Path, recount: Callable[[diskcache.Cache], object], *, is_suspect: bool) -> diskcache.Cache:
    """Open the index of the store in `folder`, or create it; check all of it where it `is_suspect`.

    A damaged one is renamed to `index.broken-<n>` and replaced by a new one with the rows that can still be read, on
    which `recount` is called. Raises OSError or sqlite3.Error where it cannot be used.
    """
    try:
        return _open(folder, is_suspect=is_suspect)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
    with _locked(folder):
        try:
            return _open(folder, is_suspect=True)  # another process may have replaced it
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            aside = next(path for n in count(1) if not (path := folder / f"{INDEX}.broken-{n}").exists())
            (folder / INDEX).rename(aside)
            index = _open(folder, is_suspect=False)
            with index.transact():
                rows = _readable_rows(aside / DBNAME)
                for key, text in rows.items():
                    index.set(key, text)
                recount(index)
            message = "the index of recordings was damaged (%s): it is renamed to %s, and %d of its rows are restored"
            _log.warning(message, error, aside, len(rows))
            return index


def _readable_rows(file: Path) -> dict[str, str]:
    """Return the rows of a damaged index that can be read: from its beginning to the damage, and from its end."""
    rows: dict[str, str] = {}
    for order in ("ASC", "DESC"):
        with suppress(sqlite3.Error), closing(sqlite3.connect(file)) as connection:
            query = "SELECT key, value FROM Cache WHERE raw = 1 AND typeof(key) = 'text' AND typeof(value) = 'text'"
            rows.update(connection.execute(f"{query} ORDER BY rowid {order}"))
    return rows


def _open(folder: Path, *, is_suspect: bool) -> diskcache.Cache:
    file = folder / INDEX / DBNAME
    if file.exists():
        _check_header(file)
        if is_suspect and (fault := check(folder)):
            raise sqlite3.DatabaseError(fault)
    return diskcache.Cache(
        str(folder / INDEX),
        timeout=_LOCK_TIMEOUT,
        disk=_TextOnly,
        disk_min_file_size=_MAX_ROW_SIZE,
        sqlite_synchronous=2,  # FULL: a stored recording survives a loss of power
        eviction_policy="none",
        size_limit=_MAX_INDEX_SIZE,
        cull_limit=0,
    )


def _check_header(file: Path) -> None:
    """Raise sqlite3.DatabaseError for a file whose header or schema is not that of a database."""
    with closing(sqlite3.connect(file, timeout=_LOCK_TIMEOUT)) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def check(folder: Path) -> str:
    """Check the whole index; return what is damaged, or an empty text."""
    with closing(sqlite3.connect(folder / INDEX / DBNAME, timeout=_LOCK_TIMEOUT)) as connection:
        try:
            (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            result = str(error)
    return "" if result == "ok" else str(result)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of the folder, which ends with the process."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
