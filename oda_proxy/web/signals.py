"""The signals of a server: SIGINT and SIGTERM stop it, and SIGHUP has it read its configuration again.

SIGHUP has two meanings: a program that rotates logs, or an administrator, sends it to have files opened again, and the
system sends it when the terminal has gone away from which the server was started. The second stops the server: it is
told from the first by the terminal, which can no longer be opened.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import TYPE_CHECKING, Final

from oda_proxy.web.log_thread import log_event

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)

HANGUP_DELAY: Final = 0.2
"""Seconds after SIGHUP at which the terminal is looked for: the system takes it away at about the same time."""
_TERMINAL: Final = "/dev/tty"


def has_terminal() -> bool:
    """Return whether this process has a controlling terminal (POSIX, General Terminal Interface)."""
    try:
        os.close(os.open(_TERMINAL, os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def stop_event(on_hangup: Callable[[], None] | None = None, *, is_logged: bool = True) -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set from now on, and SIGHUP when the terminal has gone away.

    Any other SIGHUP calls `on_hangup`; without that, it stops the server, too. Signals that stop are logged if
    `is_logged`. A signal that was ignored when the program started stays ignored: `nohup` and scripts that start a
    server in the background set SIGHUP and SIGINT so.
    """
    stop, loop, had_terminal = asyncio.Event(), asyncio.get_running_loop(), has_terminal()

    def stop_on(number: signal.Signals) -> None:
        if is_logged:
            log_stop(number)
        stop.set()

    def hang_up() -> None:
        if on_hangup is None or (had_terminal and not has_terminal()):
            stop_on(signal.SIGHUP)
        else:
            on_hangup()

    handlers: dict[signal.Signals, Callable[[], object]] = {
        signal.SIGINT: lambda: stop_on(signal.SIGINT),
        signal.SIGTERM: lambda: stop_on(signal.SIGTERM),
        signal.SIGHUP: hang_up if on_hangup is None else lambda: loop.call_later(HANGUP_DELAY, hang_up),
    }
    for number, handler in handlers.items():
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, handler)
    return stop


def log_stop(number: signal.Signals) -> None:
    """Log that a signal stops the server."""
    log_event(_log, "stop", f"stopping on {number.name}", signal=number.name)
