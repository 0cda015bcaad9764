"""The command line: what goes wrong is said in one line, and servers stop when told to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING
from urllib.error import HTTPError

import pytest

from oda_proxy.cli import main
from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder without a configuration, and keep nothing outside of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))


def failing(*arguments: str) -> tuple[int, str]:
    """Run a command that fails in a process of its own; give its status and what it said on standard error."""
    command = [sys.executable, "-m", "oda_proxy.cli", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.stdout == ""
    return result.returncode, result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["serve", "--upstream", "http://127.0.0.1:1"], 1, "dispatcher http://127.0.0.1:1: Connection refused"),
        (["serve", "--upstream", "http://no-such-host.invalid"], 1, "dispatcher http://no-such-host.invalid"),
        (
            ["serve", "--upstream", "nonsense"],
            2,
            "--upstream must be an http(s) address without user and query, not 'nonsense'",
        ),
        (["serve", "--upstream", "http://127.0.0.1:99999"], 2, "--upstream must be an http(s) address"),
        (["serve", "--upstream", "http://user:secret@127.0.0.1"], 2, "without user and query, not what it is"),
        (["serve", "--open-route", "anything"], 2, "--open-route must be a closed route"),
        (["serve", "--cache-dir", ""], 2, "--cache-dir must be a folder"),
        (["serve", "--mock", "--upstream", "http://127.0.0.1:1"], 2, "say one of them"),
        (["mock", "--scenarios", "missing.toml", "--scenario", "mine"], 2, "missing.toml"),
        (["serve", "--no-such-option"], 2, "unrecognized arguments: --no-such-option"),
        (["serve", "--mock", "--cache-dir", "file"], 1, "cannot keep recordings in file/"),
        (["serve", "--offline", "--cache-dir", "file/below"], 1, "Not a directory"),
        (["serve", "--offline", "--cache-dir", "/proc/no-such"], 1, "cannot keep recordings in /proc/no-such"),
        (["serve", "--config", "missing.toml"], 2, "cannot read the configuration missing.toml"),
        (["serve", "--port", "99999"], 2, "--port must be a port"),
        (["mock", "--host", "256.1.1.1", "--port", "0"], 1, "cannot listen on 256.1.1.1"),
        (["mock", "--fixtures", "no-such-folder"], 1, "no-such-folder"),
        (["mock", "--scenario", "no-such-scenario"], 2, "no-such-scenario"),
        (["mock", "--time-scale", "fast"], 2, "--time-scale must be a number from 0, not 'fast'"),
        (["serve", "--no-such-option"], 2, "see oda-proxy serve --help"),
        (["export", "out", "--no-such-option", "key"], 2, "--no-such-option key; see oda-proxy export --help"),
        (["show", "key", "another"], 2, "unrecognized arguments: another; see oda-proxy show --help"),
        (["export", "--json"], 2, "required: DIR, KEY; see oda-proxy export --help"),
        (["diff", "--ignore", "CREATOR", "no-such"], 1, "there is no capsule in no-such"),
        (["no-such-command"], 2, "no-such-command"),
        ([], 2, "required: COMMAND"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(tmp_path: Path, arguments: list[str], status: int, said: str) -> None:
    (tmp_path / "file").write_text("")

    got, errors = failing(*arguments)

    assert said in errors
    assert errors.startswith("oda-proxy: ")
    assert errors.count("\n") == 1
    assert got == status


@pytest.mark.parametrize("command", ["serve", "mock"])
def test_a_port_in_use_is_said_in_one_line(command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = [command, "--port", str(port)] + (["--offline"] if command == "serve" else [])
        status, errors = failing(*arguments)

    assert (status, errors.count("\n")) == (1, 1)
    assert f"port {port}: the port is in use" in errors


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)

    status, errors = failing("serve", "--mock", "--cache-dir", "closed")

    assert (status, errors.count("\n")) == (1, 1)
    assert "Permission denied" in errors


def test_an_unreachable_upstream_is_no_obstacle_where_something_was_recorded(tmp_path: Path) -> None:
    cache = ["--cache-dir", str(tmp_path / "cache")]
    with running(tmp_path / "mock-log", "mock", "--port", "0", "--time-scale", "0") as mock:
        to_mock = ["serve", "--upstream", mock.url, "--port", "0", *cache]
        with running(tmp_path / "log", *to_mock) as proxy:
            ask = (
                "/run_analysis?instrument=spi_acs&product_type=spi_acs_lc&query_type=Real&T1=2003-03-15T23:27:40.0"
                "&T2=2003-03-15T23:57:12.0&time_bin=2&RA=255.986542&DEC=-37.844167&query_status=new&api=True&session_id=SESSIONOFTHETEST"
            )
            with urllib.request.urlopen(proxy.url + ask) as response:  # noqa: S310 - an address on this machine
                assert response.headers["Cache-Status"].endswith("stored")
    with running(tmp_path / "log", *to_mock) as proxy:
        with urllib.request.urlopen(proxy.url + ask) as response:  # noqa: S310 - as above
            assert response.headers["Cache-Status"] == "oda-proxy; hit"
        assert "answering from recordings until it is back" in proxy.end()
    with running(tmp_path / "log", "serve", "--offline", "--port", "0", *cache) as other:
        assert f"there are recordings of other dispatchers, named with --upstream: {mock.url}" in other.end()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("arguments", [["mock"], ["serve", "--mock"]])
def test_a_server_stops_when_told_to(tmp_path: Path, arguments: list[str], number: signal.Signals) -> None:
    with running(tmp_path / "log", *arguments, "--port", "0") as server:
        server.process.send_signal(number)

        assert server.process.wait(PATIENCE) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_serving_over_the_mock_prints_what_to_paste(tmp_path: Path) -> None:
    with running(tmp_path / "log", "serve", "--mock", "--port", "0") as server:
        assert server.process.stdout is not None
        server.process.send_signal(signal.SIGTERM)
        lines = [line for line in server.process.stdout.read().splitlines() if line]

    assert lines[1] == "from oda_api.api import DispatcherAPI"
    assert lines[2] == f'disp = DispatcherAPI(url="{server.url}")'
    assert lines[3].startswith("data = disp.get_product(")
    compile("\n".join(lines[1:4]), "pasted", "exec")


def test_what_the_mock_answers_is_not_kept_for_other_dispatchers(tmp_path: Path) -> None:
    with running(tmp_path / "log", "serve", "--mock", "--port", "0"):
        pass

    assert not (tmp_path / "caches").exists()


def test_help_and_version_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["serve", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0

    assert "--upstream URL" in capsys.readouterr().out


def test_a_scenario_of_ones_own_is_played(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        '[mine]\nsummary = "Nothing works"\n[[mine.faults]]\ndo = "status"\nstatus = 503\n'
    )
    arguments = ["mock", "--port", "0", "--scenarios", str(tmp_path / "mine.toml"), "--scenario", "mine"]

    query = "instrument=isgri&product_type=isgri_lc&query_type=Real&query_status=new"

    with running(tmp_path / "log", *arguments) as mock, pytest.raises(HTTPError) as raised:
        urllib.request.urlopen(f"{mock.url}/run_analysis?{query}")  # noqa: S310 - an address on this machine

    with raised.value as error:
        assert error.code == 503
