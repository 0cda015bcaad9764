"""One heap of the C library for all threads: of several, each would keep what an answer took in its thread."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Final

_M_ARENA_MAX: Final = -8
"""The parameter of `mallopt` for the number of heaps, as in malloc.h of glibc."""


def use_one_heap() -> None:
    """Have all threads that start later use one heap, unless `MALLOC_ARENA_MAX` is set; other C libraries have one.

    Threads of Python hardly ever wait for each other there: they hold the interpreter lock.
    """
    if sys.platform != "linux" or "MALLOC_ARENA_MAX" in os.environ:
        return
    import ctypes

    with suppress(AttributeError, OSError):  # a C library without this parameter
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
