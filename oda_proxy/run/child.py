"""Runs a command as a shell would, and leaves none of its processes behind.

The command stays in our process group, so that a terminal treats both as one job: Ctrl-C and Ctrl-Z reach the command
directly, and the command decides what they do. Signals that are sent to this process only are forwarded, and followed
by a stronger one if the command does not end.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import shutil
import signal
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from oda_proxy.errors import OdaProxyError

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Iterator, Mapping, Sequence

SIGNAL_TIMEOUT = 10.0
"""Seconds that the command has to end after a signal was forwarded, before it gets a stronger one."""
GRACE = 3.0
"""Seconds that processes which the command left behind have to end after a signal."""
REPEAT_INTERVAL = 2.0
"""Seconds within which a second SIGINT on a terminal is forwarded: the first may have been sent to us only."""

_KEYBOARD = (signal.SIGINT, signal.SIGQUIT)
_FORWARDED = (*_KEYBOARD, signal.SIGTERM, signal.SIGHUP)
_STRONGER = {signal.SIGINT: signal.SIGTERM, signal.SIGQUIT: signal.SIGTERM, signal.SIGHUP: signal.SIGTERM}
_SIGNAL_STATUS = 128


class CommandNotFoundError(OdaProxyError):
    """A command that does not exist."""

    exit_status = 127  # as in shells

    def __init__(self, command: str) -> None:
        super().__init__(f"there is no command {command!r}")


class CommandNotRunError(OdaProxyError):
    """A command that exists and cannot be run."""

    exit_status = 126  # as in shells

    def __init__(self, command: str, reason: str) -> None:
        super().__init__(f"cannot run {command!r}: {reason}")


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended: its exit status as in shells, and the number of left-over processes that were ended."""

    status: int
    left_behind: int


def find(command: str) -> None:
    """Check that a command exists, before anything is prepared for it. Raises as `run` does."""
    if shutil.which(command) is None:
        if os.sep in command and Path(command).exists():
            raise CommandNotRunError(command, os.strerror(errno.EACCES))
        raise CommandNotFoundError(command)


async def run(
    command: Sequence[str], environ: Mapping[str, str], *, signal_timeout: float = SIGNAL_TIMEOUT
) -> CommandResult:
    """Run a command with our standard streams and an environment, and wait for it; for the main thread.

    On systems other than Linux, processes that the command leaves behind are not ended.

    Raises
    ------
    CommandNotFoundError, CommandNotRunError
        Nothing ran.
    """
    others = set(descendants())
    signals = _SignalForwarder(signal_timeout)
    with _adopting_orphans(), signals.handlers():  # before the command starts
        process = await _start(command, environ)
        signals.begin(process)
        with _reaping(process):
            try:
                status = await process.wait()
            finally:
                if process.returncode is None:  # cancelled
                    process.kill()
                    await process.wait()
                left_behind = await _end_leftovers(others)
    return CommandResult(status if status >= 0 else _SIGNAL_STATUS - status, left_behind)


async def _start(command: Sequence[str], environ: Mapping[str, str]) -> Process:
    try:
        return await asyncio.create_subprocess_exec(*command, env=environ)
    except FileNotFoundError:
        raise CommandNotFoundError(command[0]) from None
    except OSError as error:
        raise CommandNotRunError(command[0], error.strerror or str(error)) from None


class _SignalForwarder:
    """Forwards signals to a command, also those that arrived before it started."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._command: Process | None = None
        self._pending: list[signal.Signals] = []
        self._escalations: list[asyncio.TimerHandle] = []
        self._last_interrupt = float("-inf")

    @contextmanager
    def handlers(self) -> Iterator[None]:
        """Handle all signals except those that this process was started to ignore: the command ignores them, too."""
        previous = {number: signal.getsignal(number) for number in _FORWARDED}
        handled = [number for number, handler in previous.items() if handler is not signal.SIG_IGN]
        for number in handled:
            self._loop.add_signal_handler(number, self._receive, number)
        try:
            yield
        finally:
            for number in handled:
                self._loop.remove_signal_handler(number)
                signal.signal(number, previous[number] or signal.SIG_DFL)  # not to be the default again
            for timer in self._escalations:
                timer.cancel()

    def begin(self, command: Process) -> None:
        """Set the command, and forward pending signals."""
        self._command = command
        for number in self._pending:
            self._forward(number)

    def _receive(self, number: signal.Signals) -> None:
        if self._command is None:
            self._pending.append(number)
        elif number not in _KEYBOARD or not _is_in_foreground():
            self._forward(number)
        elif self._loop.time() - self._last_interrupt < REPEAT_INTERVAL:
            self._send(number)
        else:  # the terminal has sent it to the command, too
            self._last_interrupt = self._loop.time()

    def _forward(self, number: signal.Signals) -> None:
        self._send(number)
        if number is not signal.SIGKILL:
            stronger = _STRONGER.get(number, signal.SIGKILL)
            self._escalations.append(self._loop.call_later(self._timeout, self._forward, stronger))

    def _send(self, number: signal.Signals) -> None:
        if self._command is not None:
            with suppress(ProcessLookupError):
                self._command.send_signal(number)


def _is_in_foreground() -> bool:
    """Return whether a terminal sends Ctrl-C to our process group, and so to the command."""
    try:
        terminal = os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


# -- processes that a command leaves behind (Linux only) ------------------------------------------

_SET_SUBREAPER, _GET_SUBREAPER = 36, 37  # of prctl(2)


@contextmanager
def _adopting_orphans() -> Iterator[None]:
    """Become the parent of orphaned descendants (prctl(2)): notebook kernels have sessions of their own."""
    if sys.platform != "linux":
        yield
        return
    system = ctypes.CDLL(None)
    before = ctypes.c_int()
    system.prctl(_GET_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    system.prctl(_SET_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        system.prctl(_SET_SUBREAPER, before.value, 0, 0, 0)


@contextmanager
def _reaping(process: Process) -> Iterator[None]:
    """Reap adopted descendants as they end, as init would."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, _reap, process.pid)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGCHLD)
        _reap(process.pid)


def _reap(command: int) -> None:
    """Reap ended children except for the command, which asyncio waits for."""
    with suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != command:
            os.waitpid(ended.si_pid, 0)


async def _end_leftovers(others: set[int]) -> int:
    """End all descendants except for `others`, and return their number; helpers that end by themselves do not count."""
    left = [pid for pid in descendants() if pid not in others]
    number = sum(not _is_helper(pid) for pid in left)
    loop = asyncio.get_running_loop()
    for stronger in (signal.SIGTERM, signal.SIGKILL):
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, stronger)
        until = loop.time() + GRACE
        while (left := [pid for pid in descendants() if pid not in others]) and loop.time() < until:  # noqa: ASYNC110 - there is no event for the end of a process that is not our child
            await asyncio.sleep(0.02)
    return number


def _is_helper(pid: int) -> bool:
    """Return whether it is a resource tracker of Python (multiprocessing, joblib): that ends after its parent."""
    try:
        return b"resource_tracker" in (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:  # it has ended by itself
        return True


def descendants() -> list[int]:
    """Return the running processes that descend from this one."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*") if sys.platform == "linux" else ():
        with suppress(OSError, ValueError):  # it may end meanwhile
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(folder.name)] = int(parent)
    return [pid for pid in parents if _descends(pid, parents)]


def _descends(pid: int, parents: Mapping[int, int]) -> bool:
    while pid := parents.get(pid, 0):
        if pid == os.getpid():
            return True
    return False
