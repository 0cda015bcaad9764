"""The event loop of a server: that of uvloop where it is installed, else that of asyncio."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, Final, TypeVar

from oda_proxy.web.allocator import use_one_heap
from oda_proxy.web.log_thread import LogSettings, log_in_thread
from oda_proxy.web.open_files import allow_open_files

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

SWITCH_INTERVAL: Final = 0.0001
"""Seconds after which a thread has to let others run: a hit waits that long several times while an answer is stored."""


def run_server(server: Coroutine[Any, Any, T], log: LogSettings | None = None) -> T:
    """Run a server until it ends and return its result; a thread writes its log.

    Threads that process large answers yield to the event loop after `SWITCH_INTERVAL`, and share its heap.
    The process may have as many open files as the system allows it.
    Raises OSError where the file of the log cannot be opened.
    """
    use_one_heap()
    allow_open_files()
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        with log_in_thread(log or LogSettings()), asyncio.Runner(loop_factory=_fast_loop()) as runner:
            return runner.run(server)
    finally:
        server.close()  # it has not begun where the log cannot be opened
        sys.setswitchinterval(usual)


def loop_name() -> str:
    """Return the name of the running event loop, for a person: `uvloop`, or `asyncio`."""
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes a loop of uvloop; None where it is not installed, and on Windows, where there is none."""
    if sys.platform == "win32":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
