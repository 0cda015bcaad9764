"""Running a command as if it stood alone on the command line, and leaving no process of it behind.

The command stays in our process group, so that a terminal treats both as one job: its Ctrl-C and Ctrl-Z reach the
command without us, and what they mean is for the command to say. What is sent to us alone is passed on, with emphasis.
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

PATIENCE = 10.0
"""Seconds that the command has to end after a signal that was sent to us, before it gets a stronger one."""
GRACE = 3.0
"""Seconds that what the command left behind has to end after a signal."""
AGAIN = 2.0
"""Seconds within which a second Ctrl-C on a terminal is passed on: the first may have been sent to us alone."""

_KEYBOARD = (signal.SIGINT, signal.SIGQUIT)
_PASSED_ON = (*_KEYBOARD, signal.SIGTERM, signal.SIGHUP)
_STRONGER = {signal.SIGINT: signal.SIGTERM, signal.SIGQUIT: signal.SIGTERM, signal.SIGHUP: signal.SIGTERM}
_SHELL_SAYS_SIGNAL = 128


class CommandNotFoundError(OdaProxyError):
    """There is no such command."""

    exit_status = 127  # as shells have it

    def __init__(self, command: str) -> None:
        super().__init__(f"there is no command {command!r}")


class CommandNotRunError(OdaProxyError):
    """A command is there and cannot be run."""

    exit_status = 126  # as shells have it

    def __init__(self, command: str, reason: str) -> None:
        super().__init__(f"cannot run {command!r}: {reason}")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its status as shells tell it, and how many processes that it left had to be ended."""

    status: int
    left_behind: int


def find(command: str) -> None:
    """See whether a command is there, before anything is prepared for it. Raises as `run` does."""
    if shutil.which(command) is None:
        if os.sep in command and Path(command).exists():
            raise CommandNotRunError(command, os.strerror(errno.EACCES))
        raise CommandNotFoundError(command)


async def run(command: Sequence[str], environ: Mapping[str, str], *, patience: float = PATIENCE) -> Ended:
    """Run a command with our standard streams and the environment given, and wait for it; for the main thread.

    On systems other than Linux, only the command itself is sure to have ended.

    Raises
    ------
    CommandNotFoundError, CommandNotRunError
        Nothing was run.
    """
    others = set(_descendants())
    signals = _Signals(patience)
    with _adopting(), signals.passed_on():  # before there is a command that would be left alone
        process = await _started(command, environ)
        signals.begin(process)
        with _burying(process):
            try:
                status = await process.wait()
            finally:
                if process.returncode is None:  # nobody waits for it any more
                    process.kill()
                    await process.wait()
                left_behind = await _end_leftovers(others)
    return Ended(status if status >= 0 else _SHELL_SAYS_SIGNAL - status, left_behind)


async def _started(command: Sequence[str], environ: Mapping[str, str]) -> Process:
    try:
        return await asyncio.create_subprocess_exec(*command, env=environ)
    except FileNotFoundError:
        raise CommandNotFoundError(command[0]) from None
    except OSError as error:
        raise CommandNotRunError(command[0], error.strerror or str(error)) from None


class _Signals:
    """Passes signals on to a command; those that came before it, too."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._command: Process | None = None
        self._early: list[signal.Signals] = []
        self._insisting: list[asyncio.TimerHandle] = []
        self._pressed_at = float("-inf")

    @contextmanager
    def passed_on(self) -> Iterator[None]:
        """Take all signals but those that we were started to ignore: the command ignores these, too."""
        taken = [number for number in _PASSED_ON if signal.getsignal(number) is not signal.SIG_IGN]
        for number in taken:
            self._loop.add_signal_handler(number, self._take, number)
        try:
            yield
        finally:
            for number in taken:
                self._loop.remove_signal_handler(number)
            for timer in self._insisting:
                timer.cancel()

    def begin(self, command: Process) -> None:
        """Take note of the command."""
        self._command = command
        for number in self._early:
            self._insist(number)

    def _take(self, number: signal.Signals) -> None:
        if self._command is None:
            self._early.append(number)
        elif number not in _KEYBOARD or not _is_in_foreground():
            self._insist(number)
        elif self._loop.time() - self._pressed_at < AGAIN:
            self._send(number)
        else:  # the terminal sent it to the command, too
            self._pressed_at = self._loop.time()

    def _insist(self, number: signal.Signals) -> None:
        self._send(number)
        if number is not signal.SIGKILL:
            stronger = _STRONGER.get(number, signal.SIGKILL)
            self._insisting.append(self._loop.call_later(self._patience, self._insist, stronger))

    def _send(self, number: signal.Signals) -> None:
        if self._command is not None:
            with suppress(ProcessLookupError):
                self._command.send_signal(number)


def _is_in_foreground() -> bool:
    """Tell whether what is pressed on a terminal reaches our process group, and with it the command, by itself."""
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


# -- what a command leaves behind: Linux can tell, elsewhere nothing is known of it ---------------

_SET_SUBREAPER, _GET_SUBREAPER = 36, 37  # of prctl(2)


@contextmanager
def _adopting() -> Iterator[None]:
    """Be the parent of descendants whose own ended: kernels of notebooks are in sessions of their own."""
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
def _burying(process: Process) -> Iterator[None]:
    """Let go of adopted descendants as they end, as their system's first process would."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, _bury, process.pid)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGCHLD)
        _bury(process.pid)


def _bury(command: int) -> None:
    """Let go of ended children other than the command, for which somebody waits."""
    with suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != command:
            os.waitpid(ended.si_pid, 0)


async def _end_leftovers(others: set[int]) -> int:
    """End all descendants but `others`, and tell how many there were."""
    left = [pid for pid in _descendants() if pid not in others]
    number = len(left)
    loop = asyncio.get_running_loop()
    for stronger in (signal.SIGTERM, signal.SIGKILL):
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, stronger)
        until = loop.time() + GRACE
        while (left := [pid for pid in _descendants() if pid not in others]) and loop.time() < until:  # noqa: ASYNC110 - who is not our child tells us nothing when it ends
            await asyncio.sleep(0.02)
    return number


def _descendants() -> list[int]:
    """Give the processes that descend from this one and run."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*") if sys.platform == "linux" else ():
        with suppress(OSError, ValueError):  # it may end while we look
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(folder.name)] = int(parent)
    return [pid for pid in parents if _descends(pid, parents)]


def _descends(pid: int, parents: Mapping[int, int]) -> bool:
    while pid := parents.get(pid, 0):
        if pid == os.getpid():
            return True
    return False
