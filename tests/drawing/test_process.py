"""The drawing process: limits, failures and restarts."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.drawing.process import (
    DrawingFailedError,
    DrawingProcess,
    NotInstalledError,
    UnavailableError,
)
from oda_proxy.drawing.tasks import Kind, Task
from oda_proxy.errors import OdaProxyError
from oda_proxy.recordings.head import MemoryHead
from tests.support import capsules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oda_proxy.recordings.recording import Recording

PROGRAM = """
import json, os, sys, time
print(json.dumps({}), flush=True)
for line in sys.stdin.buffer:
    request = json.loads(line)
    if request["size"] is not None:
        head = sys.stdin.buffer.read(request["size"])
    match request["task"]["number"]:
        case 0:
            text = f"{len(head)} {request['size']}"
        case 1:
            time.sleep(3600)
        case 2:
            os._exit(3)
        case 3:
            text = " ".join(sorted(os.environ))
    with open(request["output"], "w") as output:
        output.write(text)
    print(json.dumps({"held": True}), flush=True)
"""
FAKE = (sys.executable, "-c", PROGRAM)
GOOD, HANGS, DIES, ENVIRONMENT = (Task(Kind.PICTURE, number) for number in range(4))


@pytest.fixture
def recording() -> Recording:
    return capsules.with_arrays()


@pytest.fixture
def start() -> Iterator[Callable[..., DrawingProcess]]:
    with ExitStack() as stack:

        def start(**options: Any) -> DrawingProcess:
            process = DrawingProcess(**options)
            stack.callback(process.stop)
            return process

        yield start


@pytest.fixture
def process(start: Callable[..., DrawingProcess]) -> DrawingProcess:
    return start(program=FAKE)


def test_a_process_is_started_when_it_is_first_needed_and_holds_the_recording(
    process: DrawingProcess, recording: Recording, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    assert process.process_id is None

    process.perform(GOOD, recording, output)
    first, process_id = output.read_text(), process.process_id
    process.perform(GOOD, recording, output)
    second = output.read_text()
    process.perform(GOOD, replace(recording, head=MemoryHead(b'"a":1')), output)

    size = recording.head.size
    assert (first, second, output.read_text()) == (f"{size} {size}", f"{size} None", "5 5")
    assert process.process_id == process_id


def test_a_process_that_hangs_is_killed_and_replaced(
    start: Callable[..., DrawingProcess], recording: Recording, tmp_path: Path
) -> None:
    process = start(timeout=0.3, program=FAKE)

    with pytest.raises(DrawingFailedError, match=r"more than 0\.3 s"):
        process.perform(HANGS, recording, tmp_path / "output")
    process.perform(GOOD, recording, tmp_path / "output")

    assert (tmp_path / "output").read_text().startswith(str(recording.head.size))


def test_a_process_that_dies_is_replaced(process: DrawingProcess, recording: Recording, tmp_path: Path) -> None:
    with pytest.raises(DrawingFailedError, match="ended with status 3"):
        process.perform(DIES, recording, tmp_path / "output")

    process.perform(GOOD, recording, tmp_path / "output")

    assert (tmp_path / "output").exists()


def test_a_process_gets_no_variables_that_may_hold_tokens(
    process: DrawingProcess, recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODA_PROXY_ADMIN_TOKEN", "secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@host")

    process.perform(ENVIRONMENT, recording, tmp_path / "output")

    names = (tmp_path / "output").read_text().split()
    assert not {"ODA_PROXY_ADMIN_TOKEN", "HTTPS_PROXY"} & set(names)
    assert "PATH" in names or "PATH" not in os.environ


def test_a_process_that_does_not_start_is_reported(recording: Recording, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="did not start"):
        DrawingProcess(program=(sys.executable, "-c", "")).perform(GOOD, recording, tmp_path / "output")
    with pytest.raises(UnavailableError, match="No such file"):
        DrawingProcess(program=("/nowhere",)).perform(GOOD, recording, tmp_path / "output")


@pytest.mark.slow
def test_the_program_imports_nothing_from_the_current_folder(
    start: Callable[..., DrawingProcess], recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)

    start().perform(Task(Kind.FITS), recording, tmp_path / "output")


@pytest.mark.slow
def test_the_memory_of_the_program_is_limited(
    start: Callable[..., DrawingProcess], recording: Recording, tmp_path: Path
) -> None:
    process = start(memory=700 * 2**20)
    large = replace(recording, head=MemoryHead(b'"text_product_list":["%b"]' % (b"x" * (200 * 2**20))))

    with pytest.raises(DrawingFailedError, match="memory"):
        process.perform(Task(Kind.ARCHIVE), large, tmp_path / "output")
    process.perform(Task(Kind.SUMMARIES), recording, tmp_path / "output")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_process_that_is_killed_is_replaced(
    number: signal.Signals, process: DrawingProcess, recording: Recording, tmp_path: Path
) -> None:
    """A signal from outside is no fault of the product, a crash is."""
    process.perform(GOOD, recording, tmp_path / "output")
    assert process.process_id is not None
    os.kill(process.process_id, number)

    with pytest.raises(OdaProxyError, match=r"was killed|ended with") as raised:
        process.perform(GOOD, recording, tmp_path / "output")
    assert raised.value.http_status == (422 if number is signal.SIGSEGV else 503)
    process.perform(GOOD, recording, tmp_path / "output")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_no_fault_of_the_product(start: Callable[..., DrawingProcess], recording: Recording) -> None:
    with pytest.raises(UnavailableError, match="cannot be written: No space left"):
        start().perform(Task(Kind.FITS), recording, Path("/dev/full"))


@pytest.mark.slow
def test_without_matplotlib_there_are_files_and_no_pictures(
    start: Callable[..., DrawingProcess], recording: Recording, tmp_path: Path
) -> None:
    call = "from oda_proxy.drawing.worker import main; main(int(sys.argv[1]), int(sys.argv[2]))"
    process = start(program=(sys.executable, "-c", f"import sys; sys.modules['matplotlib'] = None; {call}"))

    process.perform(Task(Kind.FITS), recording, tmp_path / "output")
    with pytest.raises(NotInstalledError, match=r"pip install 'oda-proxy\[plots\]'"):
        process.perform(Task(Kind.PICTURE), recording, tmp_path / "output")
    process.perform(Task(Kind.SUMMARIES), recording, tmp_path / "output")
    summaries = json.loads((tmp_path / "output").read_bytes())
    assert not any(summary["has_picture"] for summary in summaries)
    assert "pip install" in summaries[0]["no_picture"]


@pytest.mark.slow
def test_the_program_makes_each_kind_of_file(
    start: Callable[..., DrawingProcess], recording: Recording, tmp_path: Path
) -> None:
    process = start()
    for kind, begin in {
        Kind.PICTURE: b"\x89PNG",
        Kind.FITS: b"SIMPLE  =",
        Kind.HEADER: b"",
        Kind.SUMMARIES: b"[{",
        Kind.ARCHIVE: b"PK",
        Kind.FIXTURE: b"PK",
    }.items():
        process.perform(Task(kind, source="https://dispatcher.example"), recording, tmp_path / kind)
        assert (tmp_path / kind).read_bytes().startswith(begin)
    with pytest.raises(DrawingFailedError, match="no product 99"):
        process.perform(Task(Kind.PICTURE, 99), recording, tmp_path / "output")
