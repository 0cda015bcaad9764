"""The command `warm`: output, exit status, interruption."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

import oda_proxy
from oda_proxy.cli import main
from oda_proxy.commands.warm_progress import showing
from oda_proxy.query.query import ENVELOPE
from oda_proxy.warming.warm import Outcome, Warmed
from tests.support.crowds import wait_until
from tests.support.image_query import IMAGE, mock_status
from tests.support.servers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIELDS = {
    "instrument": "spi_acs",
    "product": "spi_acs_lc",
    "T1": "2003-03-15T23:27:40.0",
    "T2": "2003-03-15T23:57:12.0",
    "src_name": "Crab",
}
"""A query with a small answer."""


@pytest.fixture
def mock() -> Iterator[str]:
    with oda_proxy.mocking() as url:
        yield url


@pytest.fixture
def plan(tmp_path: Path) -> str:
    file = tmp_path / "plan.jsonl"
    file.write_text("".join(json.dumps({**FIELDS, "time_bin": seconds}) + "\n" for seconds in (2, 3, 4)))
    return str(file)


def where(mock: str, folder: Path) -> tuple[str, ...]:
    return ("--upstream", mock, "--cache-dir", str(folder / "cache"))


def warmed(capsys: pytest.CaptureFixture[str], *arguments: str, expect: int = 0) -> Any:
    assert main(["warm", *arguments, "--json"]) == expect
    return json.loads(capsys.readouterr().out)


def test_a_second_run_asks_only_for_what_is_missing(
    mock: str, plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = warmed(capsys, plan, *where(mock, tmp_path))
    with (tmp_path / "plan.jsonl").open("a") as file:
        file.write(json.dumps({**FIELDS, "time_bin": 5}))
    second = warmed(capsys, plan, *where(mock, tmp_path))

    assert (first["stored"], first["present"], first["left"]) == (3, 0, 0)
    assert (second["stored"], second["present"]) == (1, 3)
    assert mock_status(mock)["runs"] == 4


def test_a_dry_run_submits_nothing(mock: str, plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["warm", plan, "--dry-run", *where(mock, tmp_path)]) == 0

    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "3 queries: 3 missing"
    assert out[0].startswith("[1/3] missing spi_acs spi_acs_lc Crab")
    assert mock_status(mock)["runs"] == 0


def test_a_failure_is_named_in_the_summary_and_in_the_exit_status(
    mock: str, plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "plan.jsonl").open("a") as file:
        file.write(json.dumps({**FIELDS, "time_bin": "x"}))

    assert main(["warm", plan, *where(mock, tmp_path)]) == 1

    *_, title, failure, summary = capsys.readouterr().out.splitlines()
    assert title == "failed:"
    assert failure.startswith("  failed  spi_acs spi_acs_lc Crab: Parameter time_bin wrong value x")
    assert summary.startswith("4 queries: 3 stored, 1 failed, in ")


def test_queries_go_through_a_running_proxy(
    mock: str, plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with oda_proxy.serving(mock, cache_dir=tmp_path / "of the server") as server:
        result = warmed(capsys, plan, "--server", server)

    assert result["stored"] == 3
    assert not (tmp_path / "cache").exists()


def test_the_recordings_of_a_store_are_run_at_another_proxy(
    mock: str, plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warmed(capsys, plan, *where(mock, tmp_path))
    with oda_proxy.serving(mock, cache_dir=tmp_path / "another") as server:
        result = warmed(capsys, "--most-used", "2", "--server", server, *where(mock, tmp_path))

    assert result["stored"] == 2


def test_recordings_that_expire_are_computed_again_once(
    mock: str, plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warmed(capsys, plan, *where(mock, tmp_path))
    lifetime = ("--lifetime", "*/*=0.0000001", *where(mock, tmp_path))  # they have expired
    assert warmed(capsys, "--expiring-within", "1", "--most-used", "2", *lifetime)["stored"] == 2

    assert warmed(capsys, "--expiring-within", "1", "--lifetime", "*/*=1", *where(mock, tmp_path))["stored"] == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name a PLAN, or select recordings with --last-used or --expiring-within, and not both"),
        (["PLAN", "--most-used", "3"], "name a PLAN, or select"),
        (["PLAN", "--with-token"], "--with-token sends the token in ODA_TOKEN, which is not set"),
        (["PLAN", "--jobs", "0"], "--jobs: must be a number from 1, not '0'"),
        (["--expiring-within", "soon"], "must be a number of days from 0, not 'soon'"),
        (["--most-used", "3", "--cache-dir", "nowhere"], "there are no recordings in nowhere"),
        (["PLAN", "--server", "http://127.0.0.1:9"], "no oda-proxy answers at http://127.0.0.1:9: Connection refused"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    plan: str, arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ODA_TOKEN", raising=False)

    assert main(["warm", *(plan if one == "PLAN" else one for one in arguments)]) in {1, 2}

    err = capsys.readouterr().err
    assert reason in err
    assert err.count("\n") == 1


def test_the_token_is_sent_where_it_is_asked_for_and_never_printed(
    mock: str, plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODA_TOKEN", "not-a-token-at-all")

    assert main(["warm", plan, *where(mock, tmp_path)]) == 0
    assert main(["warm", plan, "--with-token", *where(mock, tmp_path)]) == 1

    output = capsys.readouterr()
    assert "3 stored" in output.out
    assert "3 failed" in output.out
    assert "not-a-token-at-all" not in output.out + output.err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_what_was_interrupted_goes_on_and_is_not_submitted_again(tmp_path: Path, number: int) -> None:
    plan = tmp_path / "plan.jsonl"
    jobs = [{**{name: IMAGE[name] for name in IMAGE.keys() - ENVELOPE}, "RA": ra} for ra in (80, 81, 82)]
    plan.write_text("".join(f"{json.dumps(job)}\n" for job in jobs))
    with oda_proxy.mocking(time_scale=1.0) as mock:
        command = [sys.executable, "-m", "oda_proxy.cli", "warm", str(plan), "--jobs", "3", *where(mock, tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            wait_until(lambda: mock_status(mock)["jobs"] == 3 and mock_status(mock)["requests"]["run_analysis"] > 3)
            os.kill(process.pid, number)
            out, err = process.communicate(timeout=PATIENCE)
        again = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
        status = mock_status(mock)

    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "3 queries: 3 left" in out
        assert err == "oda-proxy: interrupted; the same command again runs what is missing\n"
    assert again.stdout.splitlines()[-1].startswith("3 queries: 3 stored")
    assert (status["jobs"], status["asked"]["new"]) == (3, 3)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_and_keeps_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)

    with showing(3, is_silent=False) as progress:
        for number in range(3):
            progress.started(number, f"query {number}")
        progress.progress(1, "progress, 3 s")
        progress.refresh()
        during = terminal.getvalue()
        progress.ended(0, Warmed("query 0", Outcome.PRESENT))
        progress.ended(1, Warmed("query 1 [bold]", Outcome.FAILED, "why \x1b[31m", time.monotonic()))
        progress.refresh()

    assert "query 1: progress" in during
    assert "0/3" in during
    assert "2/3" in terminal.getvalue()
    assert "failed  query 1 [bold]: why \\x1b[31m" in terminal.getvalue()
    assert "present" not in terminal.getvalue()
