"""The index of a store on disk: diskcache, with text as keys and values.

diskcache pickles other types. Here that is refused, on reading and on writing: otherwise whoever can write to the
folder could run code in this process.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from contextlib import closing, contextmanager, nullcontext, suppress
from itertools import count
from typing import TYPE_CHECKING, Any

import diskcache
from diskcache.core import DBNAME, MODE_PICKLE

from oda_proxy.files.ownership import make_folder, match_owner
from oda_proxy.store.data_version import DataVersion
from oda_proxy.store.read_only_index import connect, is_unwritable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
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


class Index(diskcache.Cache):  # type: ignore[misc]  # diskcache has no types
    """The index of the store in a folder; raises OSError or sqlite3.Error where it cannot be opened for writing."""

    def __init__(self, folder: Path) -> None:
        index = folder / INDEX
        make_folder(index, mode=0o755)
        try:
            super().__init__(
                str(index),
                timeout=_LOCK_TIMEOUT,
                disk=_TextOnly,
                disk_min_file_size=_MAX_ROW_SIZE,
                sqlite_synchronous=2,  # FULL: a stored recording survives a loss of power
                eviction_policy="none",
                size_limit=_MAX_INDEX_SIZE,
                cull_limit=0,
            )
        except BaseException:
            with suppress(AttributeError):  # it failed before it had connections
                self.close()  # else one stays open until garbage is collected, and SQLite shares its read-only log
            raise
        for file in index.iterdir():
            match_owner(file, folder)
        self._database = str(index / DBNAME)
        self._identity = self._identify()
        self._data_version = DataVersion.open(index / DBNAME)

    def is_current(self) -> bool:
        """Return whether the database is still there: SQLite goes on with one that was removed or renamed."""
        return self._identify() == self._identity

    def version(self) -> Hashable | None:
        """Return a value that is another one after any change; None where that is not known. Does not wait."""
        try:
            return self._data_version.read() if self.is_current() else None
        except OSError:
            return None

    def close_all(self) -> None:
        """Close the database; `close`, which diskcache calls in each new thread, closes the connection of a thread."""
        self._data_version.close()
        self.close()

    @contextmanager
    def writing(self) -> Iterator[Index]:
        """Begin a transaction: no other process writes until the context ends."""
        with self.transact():
            yield self

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read the rows as they are now until the context ends; other processes write meanwhile."""
        self._sql("BEGIN")
        try:
            yield
        finally:
            self._sql("COMMIT")

    def select(self, query: str, *arguments: object) -> list[Any]:
        """Return the rows of an SQL query."""
        rows: list[Any] = self._sql(query, arguments).fetchall()
        return rows

    def execute(self, statement: str, *arguments: object) -> None:
        """Run an SQL statement that changes tables, within a transaction."""
        self._sql(statement, arguments)

    def _identify(self) -> tuple[int, int] | None:
        try:
            stat = os.stat(self._database)  # noqa: PTH116 - each hit does so, and a Path takes longer than the call
        except FileNotFoundError:
            return None
        return stat.st_dev, stat.st_ino


def is_damage(error: BaseException) -> bool:
    """Return whether an error means that the database is damaged, and not only unusable at the moment."""
    return type(error) is sqlite3.DatabaseError  # its subclasses are about locks, space and permissions


def open_index(folder: Path, recount: Callable[[Index], object], *, is_suspect: bool) -> Index:
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


def _open(folder: Path, *, is_suspect: bool) -> Index:
    file = folder / INDEX / DBNAME
    if file.exists():
        _check_header(file)
        if is_suspect and (fault := check(folder)):
            raise sqlite3.DatabaseError(fault)
    return Index(folder)


def _check_header(file: Path) -> None:
    """Raise sqlite3.DatabaseError for a file whose header or schema is not that of a database."""
    with closing(sqlite3.connect(file, timeout=_LOCK_TIMEOUT)) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def check(folder: Path) -> str:
    """Check the whole index; return what is damaged, or an empty text."""
    try:
        with closing(sqlite3.connect(folder / INDEX / DBNAME, timeout=_LOCK_TIMEOUT)) as connection:
            return _quick_check(connection)
    except sqlite3.OperationalError as error:
        if not is_unwritable(error):
            raise
    connection, copy = connect(folder / INDEX)
    with closing(connection), copy or nullcontext():
        return _quick_check(connection)


def _quick_check(connection: sqlite3.Connection) -> str:
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
    file = folder / "lock"
    with file.open("w") as lock:
        match_owner(file, folder)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
