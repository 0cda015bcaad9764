"""The index of a store on disk: diskcache, holding text under text and nothing else.

diskcache would pickle what is no text or number: here that is refused, in both directions, for who can write to the
folder could otherwise run code in this process.
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

_PATIENCE = 30.0
"""How long, in s, to wait for another process that writes."""

_INDEX_LIMIT = 2**40
"""Bytes after which diskcache would begin to drop entries by itself: never."""

_ROW_LIMIT = 2**30
"""Bytes after which diskcache would put a row into a file of its own, which it does not flush: never."""


class _TextOnly(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """diskcache's access to its files, without pickle."""

    def put(self, key: object) -> tuple[Any, bool]:
        """Write a key, which must be text."""
        if not isinstance(key, str):
            raise TypeError(f"a key must be text, not {type(key).__name__}")
        return key, True

    def get(self, key: Any, raw: Any) -> str:
        """Read a key; one that is no text, or was pickled, is left unread and gives an empty one."""
        return key if raw and isinstance(key, str) else ""

    def store(self, value: object, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        """Write a value, which must be text."""
        if read or not isinstance(value, str):
            raise TypeError(f"a value must be text, not {type(value).__name__}")
        return super().store(value, read, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        """Read a value; one that was pickled is refused unread."""
        if mode == MODE_PICKLE:
            raise ValueError("the index holds a pickled value")
        return super().fetch(mode, filename, value, read)


def is_damage(error: BaseException) -> bool:
    """Tell whether an error says that the file itself is damaged, and not that it cannot be used now."""
    return type(error) is sqlite3.DatabaseError  # its subclasses speak of locks, space and permissions


def open_index(folder: Path, count_anew: Callable[[diskcache.Cache], object], *, doubted: bool) -> diskcache.Cache:
    """Open the index of the store in `folder`, a new one where there is none; read all of it where it is `doubted`.

    One that is damaged is moved aside, to `index.broken-<n>`, and begun anew with the rows that can still be read; then
    they are counted. Raises OSError or sqlite3.Error where it cannot be used.
    """
    try:
        return _open(folder, doubted=doubted)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
    with _alone(folder):
        try:
            return _open(folder, doubted=True)  # another process may have been here first
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            aside = next(path for n in count(1) if not (path := folder / f"{INDEX}.broken-{n}").exists())
            (folder / INDEX).rename(aside)
            index = _open(folder, doubted=False)
            with index.transact():
                rows = _readable(aside / DBNAME)
                for key, text in rows.items():
                    index.set(key, text)
                count_anew(index)
            said = "the index of recordings was damaged (%s): moved aside to %s, and begun anew with %d rows of it"
            _log.warning(said, error, aside, len(rows))
            return index


def _readable(file: Path) -> dict[str, str]:
    """Read what can be read of a damaged index: from its beginning to the damage, and from its end."""
    rows: dict[str, str] = {}
    for order in ("ASC", "DESC"):
        with suppress(sqlite3.Error), closing(sqlite3.connect(file)) as connection:
            wanted = "SELECT key, value FROM Cache WHERE raw = 1 AND typeof(key) = 'text' AND typeof(value) = 'text'"
            rows.update(connection.execute(f"{wanted} ORDER BY rowid {order}"))
    return rows


def _open(folder: Path, *, doubted: bool) -> diskcache.Cache:
    file = folder / INDEX / DBNAME
    if file.exists():
        _look_at(file)
        if doubted and (fault := check(folder)):
            raise sqlite3.DatabaseError(fault)
    return diskcache.Cache(
        str(folder / INDEX),
        timeout=_PATIENCE,
        disk=_TextOnly,
        disk_min_file_size=_ROW_LIMIT,
        sqlite_synchronous=2,  # FULL: a kept recording survives the loss of power, too
        eviction_policy="none",
        size_limit=_INDEX_LIMIT,
        cull_limit=0,
    )


def _look_at(file: Path) -> None:
    """Raise sqlite3.DatabaseError for a file whose beginning, or whose list of tables, is no database's."""
    with closing(sqlite3.connect(file, timeout=_PATIENCE)) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def check(folder: Path) -> str:
    """Read the whole index, and say what is wrong with it, or nothing."""
    with closing(sqlite3.connect(folder / INDEX / DBNAME, timeout=_PATIENCE)) as connection:
        try:
            (told,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            told = str(error)
    return "" if told == "ok" else str(told)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes out, for as long as this one lives."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
