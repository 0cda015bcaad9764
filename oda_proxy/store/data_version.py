"""Whether any process has changed a database, told without waiting for those that write."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAX_WAIT = 0.001
"""Seconds that a reader waits for another thread that uses the connection."""

_connections = count()


class DataVersion:
    """SQLite's `PRAGMA data_version` as one connection sees it: what other connections write changes it.

    It takes about as long as a `stat`. The date and size of the log are no substitute: SQLite writes to the beginning
    of a log again, and the date of a file has steps of some ms.
    """

    def __init__(self, connection: sqlite3.Connection, lock: threading.Lock) -> None:
        """Take a connection that writes nothing, and the lock for its use."""
        self._connection = connection
        self._lock = lock
        self._number = next(_connections)

    @classmethod
    def open(cls, database: Path) -> DataVersion:
        """Open a connection of its own, so that all writes of this process are seen, too; raises sqlite3.Error."""
        address = f"{database.absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(address, uri=True, timeout=0, check_same_thread=False, isolation_level=None)
        return cls(connection, threading.Lock())

    def read(self) -> tuple[int, int] | None:
        """Return a value that is another one after any change; None where it cannot be read without waiting."""
        if not self._lock.acquire(timeout=MAX_WAIT):
            return None
        try:
            with suppress(sqlite3.Error):
                (version,) = self._connection.execute("PRAGMA data_version").fetchone()
                return self._number, version
        finally:
            self._lock.release()
        return None

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()
