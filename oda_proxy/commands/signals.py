"""Ends a command at SIGTERM and SIGHUP as at SIGINT: files that it is writing and temporary folders are removed."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
_BY_SIGNAL: Final = 128
"""Exit status of a program that a signal ended, less the number of the signal, as in shells."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Have a signal raise SystemExit in the block; the next one ends the process at once.

    Servers and runs handle signals themselves meanwhile. Those that were ignored at the start stay ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: handler for number in _ENDING if (handler := signal.getsignal(number)) is signal.SIG_DFL}

    def end(number: int, _: object) -> NoReturn:
        restore()
        raise SystemExit(_BY_SIGNAL + number)

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    for number in previous:
        signal.signal(number, end)
    try:
        yield
    finally:
        restore()
