"""What an error of the disk of a store means for a person."""

from __future__ import annotations

import errno
import sqlite3
from typing import TYPE_CHECKING

import diskcache

from oda_proxy.store.read_only_index import is_full

if TYPE_CHECKING:
    from pathlib import Path


def reason(error: Exception) -> str:
    """Return the message of an error of the medium."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error) or type(error).__name__


def advice(error: Exception, folder: Path) -> str:
    """Return what to do about an error of the medium."""
    code = getattr(error, "sqlite_errorcode", None)
    base = None if code is None else code & 0xFF
    if (isinstance(error, OSError) or base is not None) and is_full(error, folder):
        return "free space on its disk, or evict recordings with oda-proxy prune --max-size SIZE"
    if (isinstance(error, OSError) and error.errno == errno.EROFS) or base == sqlite3.SQLITE_READONLY:
        return "recordings can be read, not changed: make the folder writable, or name another one with --cache-dir"
    if (isinstance(error, OSError) and error.errno in {errno.EACCES, errno.EPERM}) or base == sqlite3.SQLITE_PERM:
        return "give its files to the user who runs oda-proxy (chown -R), or name another folder with --cache-dir"
    if isinstance(error, diskcache.Timeout) or base in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return "another process is writing to it: try again later"
    return "name another folder with --cache-dir"
