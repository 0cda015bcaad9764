"""Reads small files that the system has in memory, without waiting for a disk."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from typing import Final

_OPENAT2: Final = 437
"""Number of the system call, on all architectures (Linux 5.6)."""
_RESOLVE_CACHED: Final = 0x20
"""Fail with EAGAIN where a name has to be looked up on a disk (Linux 5.12)."""
_CURRENT_FOLDER: Final = -100


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_HOW: Final = _OpenHow(os.O_RDONLY | getattr(os, "O_CLOEXEC", 0), 0, _RESOLVE_CACHED)
_system: Final = ctypes.PyDLL(None, use_errno=True) if sys.platform == "linux" else None  # the calls return at once


def read_cached(path: str, size: int) -> bytes | None:
    """Return up to `size` bytes of a file; None where the system would have to read from a disk, or cannot tell.

    Fewer bytes are returned where only the beginning is in memory. Does not block.
    """
    try:
        descriptor = _open_cached(path)
        try:
            buffer = bytearray(size)
            return bytes(memoryview(buffer)[: os.preadv(descriptor, (buffer,), 0, os.RWF_NOWAIT)])
        finally:
            os.close(descriptor)
    except OSError:
        return None


def _open_cached(path: str) -> int:
    """Open a file; raises OSError where its name is not in memory, or this system cannot do that."""
    if _system is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    name = os.fsencode(path)
    descriptor: int = _system.syscall(_OPENAT2, _CURRENT_FOLDER, name, ctypes.byref(_HOW), ctypes.sizeof(_HOW))
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return descriptor
