"""A command behaves as it does alone, and leaves no process behind."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.run import child
from oda_proxy.run.child import CommandNotFoundError, CommandNotRunError, CommandResult, run
from tests.support.servers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody knows what a command leaves behind")

# A program that runs its arguments as a command, and says on standard error what came of it.
BESIDE = """
import asyncio, os, sys
from oda_proxy.run import child
child.REPEAT_INTERVAL, child.GRACE = float(os.environ.get("REPEAT_INTERVAL", "2")), 0.2
ended = asyncio.run(child.run(sys.argv[1:], os.environ, signal_timeout=float(os.environ.get("SIGNAL_TIMEOUT", "60"))))
print(ended.status, ended.left_behind, file=sys.stderr)
"""

# A command that says which signals it gets, until SIGTERM ends it.
LISTENER = """
import signal, sys
def got(number, frame):
    print("got", signal.Signals(number).name, flush=True)
    if number == signal.SIGTERM:
        sys.exit(7)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, got)
print("ready", flush=True)
while True:
    signal.pause()
"""

WAITER = "import signal; print('ready', flush=True); signal.pause()"

# A command that survives what can be survived, and whatever it starts, too.
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("ready", flush=True)
while True:
    signal.pause()
"""

# A command that ends at once, and leaves the program that it was given, in a session of its own.
LEAVER = """
import subprocess, sys
left = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True, start_new_session=True)
left.stdout.readline()
print(left.pid)
"""


@contextmanager
def beside(*program: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Run a Python program with it, without a terminal, until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-c", BESIDE, sys.executable, "-c", *program],
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            end_group(process.pid)


def end_group(pid: int) -> None:
    """End a program that leads a process group, and its command, whatever became of the test."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ended(process: subprocess.Popen[str]) -> str:
    _, errors = process.communicate(timeout=PATIENCE)
    return errors.strip()


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("program", "status"),
    [("pass", 0), ("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 15)", 128 + 15)],
)
async def test_the_exit_status_is_that_of_a_shell(program: str, status: int) -> None:
    assert await run([sys.executable, "-c", program], os.environ) == CommandResult(status, 0)


async def test_a_command_that_does_not_exist_is_reported() -> None:
    with pytest.raises(CommandNotFoundError, match="there is no command 'no-such-command'") as error:
        await run(["no-such-command"], os.environ)

    assert error.value.exit_status == 127


@pytest.mark.parametrize(("mode", "reason"), [(0o600, "Permission denied"), (0o700, "Exec format error")])
async def test_a_file_that_is_not_executable_is_reported(tmp_path: Path, mode: int, reason: str) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no program")
    file.chmod(mode)

    with pytest.raises(CommandNotRunError, match=reason) as error:
        await run([str(file)], os.environ)

    assert error.value.exit_status == 126


async def test_a_command_gets_the_environment(tmp_path: Path) -> None:
    program = f"import os; open({str(tmp_path / 'told')!r}, 'w').write(os.environ['SAID'])"

    await run([sys.executable, "-c", program], {**os.environ, "SAID": "this"})

    assert (tmp_path / "told").read_text() == "this"


def test_the_standard_streams_are_the_commands_own() -> None:
    program = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1]); sys.stderr.write('to see')"

    result = subprocess.run(
        [sys.executable, "-c", BESIDE, sys.executable, "-c", program],
        input=b"\x00\xffabc",
        capture_output=True,
        check=True,
    )

    assert result.stdout == b"cba\xff\x00"
    assert result.stderr.startswith(b"to see")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_to_this_process_only_is_forwarded(number: signal.Signals) -> None:
    with beside(LISTENER) as process:
        assert line(process) == "ready"
        process.send_signal(number)
        assert line(process) == f"got {number.name}"
        process.send_signal(signal.SIGTERM)
        assert line(process) == "got SIGTERM"

        assert ended(process) == "7 0"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_does_not_end_is_killed_after_the_timeout(number: signal.Signals) -> None:
    with beside(STUBBORN, SIGNAL_TIMEOUT="0.05") as process:
        assert line(process) == "ready"
        process.send_signal(number)

        assert ended(process) == f"{128 + signal.SIGKILL} 0"


async def test_a_signal_before_the_start_of_the_command_is_forwarded(monkeypatch: pytest.MonkeyPatch) -> None:
    started = child._start

    async def interrupted(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0)
        return await started(*arguments)

    monkeypatch.setattr(child, "_start", interrupted)

    assert await run([sys.executable, "-c", WAITER], os.environ) == CommandResult(128 + signal.SIGTERM, 0)


def test_signals_that_are_ignored_at_the_start_are_ignored_by_the_command_too() -> None:
    """As under nohup."""
    program = "import signal; print(signal.getsignal(signal.SIGHUP))"
    command = [sys.executable, "-c", BESIDE, sys.executable, "-c", program]

    result = subprocess.run(
        ["/bin/sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *command], capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == str(signal.SIG_IGN)


@contextmanager
def on_a_terminal(*program: str, **environ: str) -> Iterator[tuple[int, int]]:
    """Run a Python program with it as a terminal's job; give our process id, and the other end of the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - another process
        os.execve(  # noqa: S606 - a program of ours
            sys.executable,
            [sys.executable, "-c", BESIDE, sys.executable, "-c", *program],
            {**os.environ, **environ},
        )
    try:
        yield pid, terminal
    finally:
        end_group(pid)
        os.waitpid(pid, 0)
        os.close(terminal)


def read_until(terminal: int, word: str) -> str:
    text = ""
    while word not in text:
        text += os.read(terminal, 1024).decode()
    return text


def test_ctrl_c_on_a_terminal_reaches_the_command_once() -> None:
    with on_a_terminal(LISTENER) as (pid, terminal):
        said = read_until(terminal, "ready")
        os.write(terminal, b"\x03")
        said += read_until(terminal, "got SIGINT")
        os.kill(pid, signal.SIGTERM)  # we see to it after the other, which came before
        said += read_until(terminal, "7 0")

    assert said.count("got SIGINT") == 1


def test_on_a_terminal_a_second_interrupt_at_once_is_forwarded() -> None:
    """It may come from a program, to this process only."""
    with on_a_terminal(LISTENER, REPEAT_INTERVAL="inf") as (pid, terminal):
        read_until(terminal, "ready")
        os.write(terminal, b"\x03")
        read_until(terminal, "got SIGINT")
        said = ""
        for _ in range(int(PATIENCE / 0.1)):
            if select.select([terminal], [], [], 0.1)[0]:
                said += os.read(terminal, 1024).decode()
            else:
                os.kill(pid, signal.SIGINT)  # of two that come before we have seen the first, we see one
            if "got SIGINT" in said:
                return
    pytest.fail(f"the command was told nothing, and said {said!r}")


@linux_only
@pytest.mark.parametrize("left", [WAITER, STUBBORN], ids=["ends-when-told", "does-not-end-when-told"])
def test_processes_in_another_session_are_ended(left: str) -> None:
    with beside(LEAVER, left) as process:
        pid = int(line(process))

        assert ended(process) == "0 1"
    assert not is_there(pid)


@linux_only
def test_a_resource_tracker_of_python_is_not_counted() -> None:
    tracker = "from multiprocessing import resource_tracker as tracker; tracker.ensure_running(); print('ready')"
    with beside(LEAVER, tracker + "\nimport os; os._exit(0)") as process:
        line(process)

        assert ended(process) == "0 0"


@linux_only
def test_orphans_are_reaped_while_the_command_runs() -> None:
    """A command may wait for the end of a process that was reparented."""
    program = f"""
import os, subprocess, sys
orphan = int(subprocess.check_output([sys.executable, "-c", {LEAVER!r}, {WAITER!r}]))
os.kill(orphan, 9)
while True:
    try:
        os.kill(orphan, 0)
    except ProcessLookupError:
        print("gone", flush=True)
        break
"""
    with beside(program) as process:
        assert line(process) == "gone"
        assert ended(process) == "0 0"


async def test_a_command_ends_when_its_task_is_cancelled(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    program = f"import os, signal; open({str(file)!r}, 'w').write(str(os.getpid()) + '.'); signal.pause()"
    task = asyncio.create_task(run([sys.executable, "-c", program], os.environ))
    async with asyncio.timeout(PATIENCE):
        while not (file.exists() and file.read_text().endswith(".")):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not is_there(int(file.read_text()[:-1]))


async def test_processes_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "GRACE", 0.2)
    command = [sys.executable, "-c", WAITER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:  # noqa: ASYNC220 - nothing else waits
        assert line(other) == "ready"

        assert await run([sys.executable, "-c", "pass"], os.environ) == CommandResult(0, 0)

        assert other.poll() is None
        other.kill()
