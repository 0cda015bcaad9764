"""A lock between processes, for a path that they read and replace."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the lock for a path until the block ends; others wait.

    The lock is a hidden file beside the path, which is removed at the end. The operating system releases the lock of a
    process that dies. Raises OSError if the file cannot be written.
    """
    file = path.with_name(f".{path.name[:200]}.lock")
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_same(descriptor, file):
            break
        os.close(descriptor)  # the process before removed the file while this one waited
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(descriptor)


def _is_same(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False
