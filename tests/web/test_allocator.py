"""The threads of a server share one heap of glibc."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, threading
from oda_proxy.web.allocator import use_one_heap

use_one_heap()
started = threading.Barrier(9)

def allocate():
    blocks = [bytes(100_000) for _ in range(10)]
    started.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
started.wait()
c = ctypes.CDLL(None)
c.fopen.restype = ctypes.c_void_p
file = c.fopen(b"/dev/stdout", b"w")
c.malloc_info(0, ctypes.c_void_p(file))
c.fclose(ctypes.c_void_p(file))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has several heaps")
@pytest.mark.parametrize(("environment", "heaps"), [({}, range(1, 2)), ({"MALLOC_ARENA_MAX": "8"}, range(2, 9))])
def test_threads_share_one_heap_unless_the_environment_says_otherwise(
    environment: dict[str, str], heaps: range
) -> None:
    rest = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=rest | environment, capture_output=True, check=True)

    assert done.stdout.count(b"<heap nr=") in heaps
