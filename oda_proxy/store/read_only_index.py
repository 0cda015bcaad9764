"""Reading an index that cannot be written to: on a read-only or full disk, or without permission."""

from __future__ import annotations

import copy
import errno
import shutil
import sqlite3
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from diskcache.core import DBNAME, MODE_PICKLE

from oda_proxy.files.temporary import TemporaryFolder
from oda_proxy.store.data_version import DataVersion

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

_BATCH = 100
"""Keys that are read at once."""
_LOG_INDEX_SIZE = 64 * 1024
"""Bytes that SQLite needs for the index of a new log, and a bit more."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_UNWRITABLE = _FULL | {errno.EROFS, errno.EACCES, errno.EPERM}


class ReadOnlyIndex:
    """The part of diskcache's Cache that reads; `cause` is the error that prevents writing.

    Opening raises sqlite3.Error where the index cannot be read either, or OSError.
    """

    def __init__(self, folder: Path, cause: Exception, *, reopen_at: float) -> None:
        """Take the folder of the database, why it cannot be written to, and when to try again (monotonic, in s)."""
        self.cause = without_frames(cause)
        self.reopen_at = reopen_at
        self._folder = folder
        self._database = folder / DBNAME
        self._state = self._stat()
        self._lock = threading.Lock()
        self._connect()

    def _connect(self) -> None:
        self._connection, folder_of_copy = connect(self._folder)
        self._is_copy = folder_of_copy is not None
        self._data_version = DataVersion(self._connection, self._lock)
        self._close = weakref.finalize(self, _close, self._connection, folder_of_copy)

    def reconnect(self) -> None:
        """Close the database and open it again; raises sqlite3.Error or OSError.

        All connections of a process share the index of the log. SQLite opens it for reading only where it cannot be
        written to, and then no later connection can write until all are closed.
        """
        if self._is_copy:
            return
        with self._lock:
            self._close()
            self._connect()

    def is_current(self) -> bool:
        """Return whether the files are the same, and it is too early to try to open them for writing again."""
        return time.monotonic() < self.reopen_at and self.is_unchanged()

    def is_unchanged(self) -> bool:
        """Return whether the files are the same."""
        return self._stat() == self._state

    def version(self) -> Hashable | None:
        """Return a value that is another one after any change; None where that is not known. Does not wait."""
        try:
            return self._data_version.read() if self.is_current() else None
        except OSError:
            return None

    def close_all(self) -> None:
        """Close the database."""
        with self._lock:
            self._close()

    def writing(self) -> NoReturn:
        """Raise the error that prevents writing."""
        raise without_frames(self.cause)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read several rows."""
        yield

    def get(self, key: str) -> Any:
        """Return the value of a key, or None; raises ValueError for a pickled one."""
        rows = self.select("SELECT mode, value FROM Cache WHERE key = ? AND raw = 1", key)
        if not rows:
            return None
        ((mode, value),) = rows
        if mode == MODE_PICKLE:
            raise ValueError("the index holds a pickled value")
        return value

    def __contains__(self, key: str) -> bool:
        return bool(self.select("SELECT 1 FROM Cache WHERE key = ? AND raw = 1", key))

    def __iter__(self) -> Iterator[str]:
        last = -1
        query = "SELECT rowid, key FROM Cache WHERE raw = 1 AND typeof(key) = 'text' AND rowid > ? ORDER BY rowid"
        while rows := self.select(f"{query} LIMIT {_BATCH}", last):
            yield from (key for _, key in rows)
            last = rows[-1][0]

    def select(self, query: str, *arguments: object) -> list[Any]:
        """Return the rows of an SQL query."""
        with self._lock:
            return self._connection.execute(query, arguments).fetchall()

    def _stat(self) -> list[tuple[int, int, int, int]]:
        """Return the state of the files, which changes when another process writes to them."""
        states = []
        for file in (self._database, Path(f"{self._database}-wal")):
            with suppress(FileNotFoundError):
                stat = file.stat()
                states.append((stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return states


def without_frames(error: Exception) -> Exception:
    """Return a copy of an error without its traceback.

    An error that is raised again and again would hold the frames of each time, and the recordings in them.
    """
    return copy.copy(error)


def _close(connection: sqlite3.Connection, folder_of_copy: TemporaryFolder | None) -> None:
    connection.close()
    if folder_of_copy is not None:
        folder_of_copy.cleanup()


def connect(folder: Path) -> tuple[sqlite3.Connection, TemporaryFolder | None]:
    """Open the database in a folder for reading; raises sqlite3.Error or OSError.

    SQLite needs a write-ahead log and its index beside the database, and creates them where they are missing. Where it
    cannot, the database is read as immutable, or, if a log has entries, copied with it to a temporary folder, which is
    returned as well.
    """
    database = folder / DBNAME
    with suppress(sqlite3.OperationalError):
        return _connect(database, "mode=ro"), None
    log = Path(f"{database}-wal")
    if log.exists() and log.stat().st_size:
        folder_of_copy = TemporaryFolder("index")
        try:
            for file in (database, log):
                shutil.copy(file, folder_of_copy.name)
                Path(folder_of_copy.name, file.name).chmod(0o600)
            return _connect(Path(folder_of_copy.name, DBNAME), "mode=rw"), folder_of_copy
        except BaseException:
            folder_of_copy.cleanup()
            raise
    return _connect(database, "mode=ro&immutable=1"), None


def _connect(database: Path, parameters: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{database.absolute().as_uri()}?{parameters}", uri=True, check_same_thread=False, isolation_level=None
    )
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def is_unwritable(error: BaseException) -> bool:
    """Return whether an error means that files can perhaps be read, but not written."""
    if isinstance(error, sqlite3.OperationalError):
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        return code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
    return isinstance(error, OSError) and error.errno in _UNWRITABLE


def is_full(error: BaseException, folder: Path) -> bool:
    """Return whether an error means that the disk of a folder is full."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return True
    # Where there is no room for the index of its log, SQLite reports another error.
    with suppress(OSError):
        return code in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR} and free_space(folder)[0] < _LOG_INDEX_SIZE
    return False


def free_space(folder: Path) -> tuple[int, int]:
    """Return the bytes that are free for this user, and the size, of the disk of a folder; raises OSError."""
    usage = shutil.disk_usage(folder)
    return usage.free, usage.total
