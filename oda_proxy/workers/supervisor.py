"""The parent process of the workers: starts them, waits for their ends, and passes signals and roles on.

It runs no event loop and contacts nobody: what it does must not fail. A worker notices the end of this process by the
end of its channel, and stops: none is left when the parent process is killed.
"""

from __future__ import annotations

import gc
import logging
import os
import selectors
import signal
import socket
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from oda_proxy.errors import OdaProxyError
from oda_proxy.web.signals import HANGUP_DELAY, has_terminal, log_stop
from oda_proxy.workers.channel import Lines, Report, Roles, encode, read_report
from oda_proxy.workers.supervision import HEARTBEAT, MAX_SHORT_LIVES, Supervision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_log = logging.getLogger(__name__)

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that the parent process acts on, and passes on to the workers."""


class WorkerFailedError(OdaProxyError):
    """The first worker could not start; the message is its own."""


class WorkersEndError(OdaProxyError):
    """A worker ends whenever it is started."""


@dataclass(slots=True)
class _Process:
    """A worker that runs."""

    number: int
    pid: int
    channel: socket.socket
    lines: Lines = field(default_factory=Lines)
    failure: Report | None = None
    is_killed: bool = False
    """Whether the parent process killed it, because it did not report."""
    has_ended: bool = False
    """Whether it has ended, so that its process id may be that of another process."""


class Supervisor:
    """Runs `count` workers until a signal ends them.

    `work` runs in each worker with its number, its end of the channel, and whether it is the first start of the first
    worker; it returns the exit status. `on_complete` is called once all workers are ready, and `on_hangup` after a
    SIGHUP, before the workers get it, too. At the end workers have `patience` s before they are killed.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[int, socket.socket, bool], int],
        on_complete: Callable[[], None],
        on_hangup: Callable[[], None],
        *,
        patience: float,
    ) -> None:
        self._work = work
        self._on_complete = on_complete
        self._on_hangup = on_hangup
        self._had_terminal = has_terminal()
        self._patience = patience
        self._supervision = Supervision(count)
        self._processes: dict[int, _Process] = {}
        self._selector = selectors.DefaultSelector()
        self._announced: Roles | None = None
        self._is_first = True
        self._is_complete = False
        self._stop_until: float | None = None
        self._error: OdaProxyError | None = None
        self._signals: list[signal.Signals] = []

    def run(self) -> None:
        """Run the workers; raises WorkerFailedError or WorkersEndError where they cannot run."""
        gc.freeze()  # pages that the collector does not touch stay shared with the workers
        heartbeat_at = time.monotonic() + HEARTBEAT
        with self._signals_waking():
            while self._stop_until is None or self._processes:
                now = time.monotonic()
                if self._stop_until is None:
                    for number in self._supervision.due(now):
                        self._start(number)
                elif now > self._stop_until:
                    self._kill(list(self._processes), f"did not stop within {self._patience:.0f} s")
                    self._stop_until = float("inf")
                if now >= heartbeat_at:
                    self._kill(self._supervision.hanging(), "does not respond")
                    heartbeat_at = now + HEARTBEAT
                self._announce()
                self._wait(heartbeat_at)
                while self._signals:
                    self._act_on(self._signals.pop(0))
                self._reap()
        if self._error:
            raise self._error

    @contextmanager
    def _signals_waking(self) -> Iterator[None]:
        """Have signals end the wait for events; those that were ignored at the start stay ignored."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        self._selector.register(reader, selectors.EVENT_READ)
        previous = {one: signal.getsignal(one) for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN}
        for one in previous:
            signal.signal(one, lambda number, _: self._signals.append(signal.Signals(number)))
        previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for one, handler in previous.items():
                signal.signal(one, handler)
            self._selector.close()
            reader.close()
            writer.close()

    def _start(self, number: int) -> None:
        """Start a worker; where that fails, it counts as one that has ended."""
        ours, theirs = socket.socketpair()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {*SIGNALS, signal.SIGCHLD})
        try:
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                ours.close()
                self._become_worker(number, theirs, blocked)
        except OSError as error:  # too many processes, or no memory
            ours.close()
            self._note_end(number, f"worker {number + 1}", f"before it began ({error.strerror or error})")
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            theirs.close()
        ours.setblocking(False)
        self._processes[number] = process = _Process(number, pid, ours)
        self._selector.register(ours, selectors.EVENT_READ, process)
        self._supervision.note_start(number, time.monotonic())
        self._announced = None  # the new one has to know, too

    def _become_worker(self, number: int, channel: socket.socket, blocked: set[signal.Signals | int]) -> None:
        """Run a worker in this process, which was just forked, and end it."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for one in (*SIGNALS, signal.SIGCHLD):
                if signal.getsignal(one) is not signal.SIG_IGN:
                    signal.signal(one, signal.default_int_handler if one == signal.SIGINT else signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            self._selector.close()
            for other in self._processes.values():
                other.channel.close()  # else it would not end with the parent process
            status = self._work(number, channel, self._is_first)
        except KeyboardInterrupt:  # SIGINT before the worker handles it
            pass
        except BaseException as error:  # noqa: BLE001 - nothing may return into the copy of the parent's stack
            _log.error("worker %d: %s: %s", number + 1, type(error).__name__, error)
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _wait(self, heartbeat_at: float) -> None:
        """Wait for a message, a signal, the end of a worker, or the next time that something is due."""
        due = [heartbeat_at, self._stop_until or float("inf")]
        if self._stop_until is None and (start_at := self._supervision.next_start()) is not None:
            due.append(start_at)
        for key, _ in self._selector.select(max(min(due) - time.monotonic(), 0.0)):
            process: _Process | None = key.data
            with suppress(OSError):  # the worker has ended, or another signal has emptied the socket
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if process is not None:
                    self._receive(process, data)

    def _receive(self, process: _Process, data: bytes) -> None:
        """Act on messages of a worker."""
        if not data:
            self._selector.unregister(process.channel)  # it has ended, or is about to
            return
        try:
            reports = [read_report(members) for members in process.lines.feed(data)]
        except (ValueError, KeyError) as error:
            _log.error("worker %d sends what cannot be read (%s) and is ended", process.number + 1, error)
            self._signal(process, signal.SIGKILL)
            return
        for report in reports:
            if report.event == "failed":
                process.failure = report
            elif report.event == "heartbeat":
                self._supervision.note_heartbeat(process.number)
            else:
                self._is_first = False
                self._supervision.note_ready(process.number, time.monotonic())
        if self._supervision.was_complete and not self._is_complete:
            self._is_complete = True
            self._announce()
            self._on_complete()

    def _announce(self) -> None:
        """Tell all workers who leads and who is ready; at the end, who has not ended yet."""
        ready = self._supervision.ready
        if self._stop_until is not None:
            ready = tuple(number for number in ready if number in self._processes)
        roles = Roles(self._supervision.leader, ready)
        if roles == self._announced:
            return
        self._announced = roles
        for process in self._processes.values():
            with suppress(OSError):  # it has ended, which is noticed next
                process.channel.sendall(encode(roles))

    def _reap(self) -> None:
        """Note which workers have ended."""
        for process in list(self._processes.values()):
            pid, status = os.waitpid(process.pid, os.WNOHANG)
            if pid == 0:
                continue
            process.has_ended = True
            self._drain(process)
            del self._processes[process.number]
            with suppress(KeyError, ValueError):
                self._selector.unregister(process.channel)
            process.channel.close()
            if self._stop_until is None:
                self._ended(process, os.waitstatus_to_exitcode(status))

    def _drain(self, process: _Process) -> None:
        """Read the last messages of a worker that has ended: why."""
        with suppress(OSError):
            while data := process.channel.recv(65536):
                self._receive(process, data)

    def _ended(self, process: _Process, status: int) -> None:
        """Decide what follows the end of a worker that was not asked to end."""
        if process.failure and not self._supervision.was_complete and self._supervision.leader is None:
            self._error = WorkerFailedError(process.failure.message)
            self._stop(signal.SIGTERM)
            return
        name = f"worker {process.number + 1} (pid {process.pid})"
        self._note_end(process.number, name, _text(status, process.failure))

    def _note_end(self, number: int, name: str, text: str) -> None:
        """Have a worker started again, or give up; `name` and `text` say for the log which one ended, and how."""
        led = self._supervision.leader == number
        pause = self._supervision.note_end(number, time.monotonic())
        if self._supervision.has_given_up:
            self._error = WorkersEndError(
                f"worker {number + 1} ended {MAX_SHORT_LIVES} times in a row just after its start, the last "
                f"time {text}; the server stops"
            )
            self._stop(signal.SIGTERM)
            return
        leader = self._supervision.leader
        heir = f"; worker {leader + 1} leads now" if led and leader is not None else ""
        when = f"in {pause:.0f} s" if pause else "again"
        _log.warning("%s ended %s: it is started %s%s", name, text, when, heir)

    def _act_on(self, number: signal.Signals) -> None:
        """Stop, or have the configuration read again, as `oda_proxy.web.signals` says."""
        if number is signal.SIGHUP and self._stop_until is None:
            time.sleep(HANGUP_DELAY)
            if not self._had_terminal or has_terminal():
                self._on_hangup()
                for process in self._processes.values():
                    self._signal(process, number)
                return
        log_stop(number)
        self._stop(number)

    def _stop(self, number: signal.Signals) -> None:
        """Have all workers stop."""
        if self._stop_until is None:
            self._stop_until = time.monotonic() + self._patience
        for process in self._processes.values():
            self._signal(process, number)

    def _kill(self, numbers: list[int], reason: str) -> None:
        for number in numbers:
            if (process := self._processes.get(number)) and not process.is_killed:
                _log.warning("worker %d (pid %d) %s and is killed", number + 1, process.pid, reason)
                process.is_killed = True
                self._signal(process, signal.SIGKILL)

    @staticmethod
    def _signal(process: _Process, number: signal.Signals) -> None:
        if not process.has_ended:
            os.kill(process.pid, number)


def _text(status: int, failure: Report | None) -> str:
    """Return how a worker ended, as text."""
    if failure:
        return f"with an error ({failure.message})"
    if status < 0:
        try:
            return f"by {signal.Signals(-status).name}"
        except ValueError:
            return f"by signal {-status}"
    return f"with status {status}"
