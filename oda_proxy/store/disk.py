"""Recordings kept in a folder: an index by diskcache, and each head in a file named by its digest.

    index/            diskcache (SQLite): key -> JSON of everything but the head
    heads/ab/abcd...  the head, written under a temporary name, flushed, renamed

A head is there and whole before the index names it, so that a crash leaves a file too many and never a name too many.
Whatever was read is checked against its digest. diskcache would pickle what is no text or number: here that is refused,
in both directions, for who can write to the folder could otherwise run code in this process.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sqlite3
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diskcache
from diskcache.core import MODE_PICKLE

from oda_proxy.errors import StoreUnusableError
from oda_proxy.head import HeldHead
from oda_proxy.key import Key
from oda_proxy.recording import FORMAT, Recording

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger(__name__)

_INDEX_LIMIT = 2**40
"""Bytes after which diskcache would begin to drop entries by itself: never."""

_ROW_LIMIT = 2**30
"""Bytes after which diskcache would put a row into a file of its own, which it does not flush: never."""

_DIGEST = re.compile("[0-9a-f]{64}")


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


class DiskStore:
    """A store in a folder, which several processes may use at once.

    Raises StoreUnusableError where the folder cannot be made, written or read as a store.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._heads = folder / "heads"
        with self._medium():
            self._heads.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._heads):
                pass  # a folder that can be read and not written is better refused now than at the end of a job
            self._index = diskcache.Cache(
                str(folder / "index"),
                disk=_TextOnly,
                disk_min_file_size=_ROW_LIMIT,
                sqlite_synchronous=2,  # FULL: a kept recording survives the loss of power, too
                eviction_policy="none",
                size_limit=_INDEX_LIMIT,
                cull_limit=0,
            )

    def close(self) -> None:
        """Let go of the index."""
        self._index.close()

    def get(self, key: Key) -> Recording | None:
        """Give the recording, whole, or None: what was damaged is removed and is not there."""
        with self._medium():
            try:
                row = self._index.get(key)
                return None if row is None else self._read(key, row)
            except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
                _log.warning("a recording was damaged and is removed: %s (%s)", key, error)
                self.remove(key)
                return None

    def put(self, recording: Recording) -> None:
        """Keep a recording in place of any other with its key; once this returns, a crash does not lose it."""
        digest = recording.head.digest
        row = {
            "format": FORMAT,
            "stored_at": recording.stored_at,
            "head": digest,
            "size": recording.head.size,
            "exit_status": recording.exit_status,
            "parameters": recording.parameters,
            "echoed": recording.echoed,
        }
        with self._medium():
            self._write(self._head(digest), b"".join(recording.head.pieces()))
            self._index.set(recording.key, json.dumps(row))

    def remove(self, key: Key) -> None:
        """Forget a recording, if it is there."""
        with self._medium():
            self._index.delete(key)

    def keys(self) -> Iterator[Key]:
        """Name what is kept."""
        with self._medium():
            return iter([Key(key) for key in self._index if key])

    def _read(self, key: Key, text: str) -> Recording:
        """Read a recording from its row and its file; raises ValueError, KeyError or TypeError for damage."""
        row = json.loads(text)
        if row["format"] != FORMAT:
            raise ValueError(f"its format is {row['format']!r}, this program reads {FORMAT}")
        if not _DIGEST.fullmatch(row["head"]):
            raise ValueError("the name of its head is no digest")
        head = self._head(row["head"]).read_bytes()
        if hashlib.sha256(head).hexdigest() != row["head"]:
            raise ValueError("its head is not what was written")
        return Recording(
            key=key,
            stored_at=float(row["stored_at"]),
            head=HeldHead(head),
            exit_status=dict(row["exit_status"]),
            parameters=dict(row["parameters"]),
            echoed=tuple(row["echoed"]),
        )

    def _head(self, digest: str) -> Path:
        return self._heads / digest[:2] / digest

    def _write(self, file: Path, content: bytes) -> None:
        """Write a file so that it is there whole or not at all, also after a loss of power."""
        file.parent.mkdir(exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix="new-")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        for folder in (file.parent, self._heads):
            _flush(folder)

    @contextmanager
    def _medium(self) -> Iterator[None]:
        """Turn what the medium raises into our error."""
        try:
            yield
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            raise StoreUnusableError(self._folder, _reason(error)) from error


def _flush(folder: Path) -> None:
    """Have the names in a folder on the disk, not only in memory."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    """Say what the medium said, in a few words."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error) or type(error).__name__
