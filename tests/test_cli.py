"""The command line: errors are one line, and servers stop on signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, NoReturn
from urllib.error import HTTPError

import pytest

from oda_proxy.cli import main
from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use an empty working folder, with the cache folder in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))


def failing(*arguments: str) -> tuple[int, str]:
    """Run a command that fails in a child process; return its status and standard error."""
    command = [sys.executable, "-m", "oda_proxy.cli", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.stdout == ""
    return result.returncode, result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["serve", "--upstream", "http://127.0.0.1:1"], 1, "dispatcher http://127.0.0.1:1: Connection refused"),
        (["serve", "--upstream", "http://no-such-host.invalid"], 1, "dispatcher http://no-such-host.invalid"),
        (
            ["serve", "--upstream", "nonsense"],
            2,
            "--upstream must be an http(s) URL without user and query, not 'nonsense'",
        ),
        (["serve", "--upstream", "http://127.0.0.1:99999"], 2, "--upstream must be an http(s) URL"),
        (["serve", "--upstream", "http://user:secret@127.0.0.1"], 2, "must be an http(s) URL without user and query\n"),
        (["serve", "--open-route", "anything"], 2, "--open-route must be a closed route"),
        (["serve", "--cache-dir", ""], 2, "--cache-dir must be a folder"),
        (["serve", "--secret-key", ""], 2, "--secret-key must be a key that is not empty, not ''"),
        (["record", "-o", " ", "--", "true"], 2, "argument -o/--output: must be a path, not ' '"),
        (["diff", "", "--upstream", "http://127.0.0.1:1"], 2, "argument CAPSULE: must be a path, not ''"),
        (["diff", ".", "--upstream", ""], 2, "argument --upstream: must be an http(s) URL without user and query"),
        (["serve", "--config", ""], 2, "argument --config: must be a path, not ''"),
        (["serve", "--mock", "--upstream", "http://127.0.0.1:1"], 2, "say one of them"),
        (["mock", "--scenarios", "missing.toml", "--scenario", "mine"], 2, "missing.toml"),
        (["serve", "--no-such-option"], 2, "unrecognized arguments: --no-such-option"),
        (["serve", "--mock", "--cache-dir", "file"], 1, "cannot use the recordings in file/"),
        (["serve", "--offline", "--cache-dir", "file/below"], 1, "Not a directory"),
        (["serve", "--offline", "--cache-dir", "/proc/no-such"], 1, "cannot use the recordings in /proc/no-such"),
        (["serve", "--config", "missing.toml"], 2, "cannot read the configuration missing.toml"),
        (["serve", "--port", "99999"], 2, "--port must be a port"),
        (["mock", "--host", "256.1.1.1", "--port", "0"], 1, "cannot listen on 256.1.1.1"),
        (["mock", "--fixtures", "no-such-folder"], 1, "no-such-folder"),
        (["mock", "--scenario", "no-such-scenario"], 2, "no-such-scenario"),
        (["mock", "--time-scale", "fast"], 2, "--time-scale must be a number from 0, not 'fast'"),
        (["serve", "--no-such-option"], 2, "see oda-proxy serve --help"),
        (["export", "out", "--no-such-option", "key"], 2, "--no-such-option key; see oda-proxy export --help"),
        (["rm", "--all", "key"], 2, "unrecognized arguments: --all; see oda-proxy rm --help"),  # not --all-versions
        (["show", "key", "another"], 2, "unrecognized arguments: another; see oda-proxy show --help"),
        (["export", "--json"], 2, "required: DIR, KEY; see oda-proxy export --help"),
        (["diff", "--ignore", "CREATOR", "no-such"], 1, "oda-proxy: no-such does not exist\n"),
        (["verify", "no-such"], 1, "oda-proxy: no-such does not exist\n"),
        (["verify", "file"], 1, "oda-proxy: file is neither a folder nor a .zip or .tar.gz file of one\n"),
        (["import", "no-such"], 1, "oda-proxy: no-such does not exist\n"),
        (["import", "file"], 1, "oda-proxy: file is neither a folder nor a .zip or .tar.gz file of one\n"),
        (["no-such-command"], 2, "no-such-command"),
        ([], 2, "required: COMMAND"),
    ],
)
def test_an_error_is_one_line(tmp_path: Path, arguments: list[str], status: int, message: str) -> None:
    (tmp_path / "file").write_text("")

    got, errors = failing(*arguments)

    assert message in errors
    assert errors.startswith("oda-proxy: ")
    assert errors.count("\n") == 1
    assert got == status


@pytest.mark.parametrize("command", ["serve", "mock"])
def test_a_port_in_use_is_an_error_of_one_line(command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = [command, "--port", str(port)] + (["--offline"] if command == "serve" else [])
        status, errors = failing(*arguments)

    assert (status, errors.count("\n")) == (1, 1)
    assert f"port {port}: the port is in use" in errors


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)

    status, errors = failing("serve", "--mock", "--cache-dir", "closed")

    assert (status, errors.count("\n")) == (1, 1)
    assert "Permission denied" in errors


def test_the_proxy_starts_from_recordings_if_the_dispatcher_is_unreachable(tmp_path: Path) -> None:
    cache = ["--cache-dir", str(tmp_path / "cache")]
    with running(tmp_path / "mock-log", "mock", "--port", "0", "--time-scale", "0") as mock:
        to_mock = ["serve", "--upstream", mock.url, "--port", "0", *cache]
        with running(tmp_path / "log", *to_mock) as proxy:
            query = (
                "/run_analysis?instrument=spi_acs&product_type=spi_acs_lc&query_type=Real&T1=2003-03-15T23:27:40.0"
                "&T2=2003-03-15T23:57:12.0&time_bin=2&RA=255.986542&DEC=-37.844167&query_status=new&api=True&session_id=SESSIONOFTHETEST"
            )
            with urllib.request.urlopen(proxy.url + query) as response:  # noqa: S310 - an address on this machine
                assert response.headers["Cache-Status"].endswith("stored")
    with running(tmp_path / "log", *to_mock) as proxy:
        with urllib.request.urlopen(proxy.url + query) as response:  # noqa: S310 - as above
            assert response.headers["Cache-Status"] == "oda-proxy; hit"
        assert "answering from recordings until it is back" in proxy.end()
    with running(tmp_path / "log", "serve", "--offline", "--port", "0", *cache) as other:
        assert f"there are recordings of other dispatchers, named with --upstream: {mock.url}" in other.end()


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        (["mock"], signal.SIGHUP),
        *((one, number) for one in (["mock"], ["serve", "--mock"]) for number in (signal.SIGINT, signal.SIGTERM)),
    ],
)
def test_a_server_stops_on_a_signal(tmp_path: Path, arguments: list[str], number: signal.Signals) -> None:
    with running(tmp_path / "log", *arguments, "--port", "0") as server:
        server.process.send_signal(number)

        assert server.process.wait(PATIENCE) == 0
    log = (tmp_path / "log").read_text()
    assert f"stopping on {number.name}" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_server_leaves_a_signal_ignored_that_was_ignored_when_it_started(
    tmp_path: Path, number: signal.Signals
) -> None:
    """`nohup` starts programs so, and a script that starts them in the background."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with running(tmp_path / "log", "mock", "--port", "0") as server:
            server.process.send_signal(number)
            for _ in range(20):  # a server that took the signal would answer the first of them at most
                with urllib.request.urlopen(f"{server.url}/-/status") as response:  # noqa: S310 - on this machine
                    assert response.status == 200
            server.end()
    finally:
        signal.signal(number, before)


def test_serve_with_a_mock_prints_an_example(tmp_path: Path) -> None:
    with running(tmp_path / "log", "serve", "--mock", "--port", "0") as server:
        assert server.process.stdout is not None
        server.process.send_signal(signal.SIGTERM)
        lines = [line for line in server.process.stdout.read().splitlines() if line]

    assert lines[1] == "from oda_api.api import DispatcherAPI"
    assert lines[2] == f'disp = DispatcherAPI(url="{server.url}")'
    assert lines[3].startswith("data = disp.get_product(")
    compile("\n".join(lines[1:4]), "pasted", "exec")


def test_responses_of_the_mock_are_not_stored_on_disk(tmp_path: Path) -> None:
    with running(tmp_path / "log", "serve", "--mock", "--port", "0"):
        pass

    assert not (tmp_path / "caches").exists()


def test_help_and_version_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["serve", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0

    assert "--upstream URL" in capsys.readouterr().out


def test_a_scenario_from_a_file_is_played(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        '[mine]\nsummary = "Nothing works"\n[[mine.faults]]\ndo = "status"\nstatus = 503\n'
    )
    arguments = ["mock", "--port", "0", "--scenarios", str(tmp_path / "mine.toml"), "--scenario", "mine"]

    query = "instrument=isgri&product_type=isgri_lc&query_type=Real&query_status=new"

    with running(tmp_path / "log", *arguments) as mock, pytest.raises(HTTPError) as raised:
        urllib.request.urlopen(f"{mock.url}/run_analysis?{query}")  # noqa: S310 - an address on this machine

    with raised.value as error:
        assert error.code == 503


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "/srv/a"), "oda-proxy: /srv/a: Permission denied\n"),
        (OSError(28, "No space left on device"), "oda-proxy: No space left on device\n"),
        (TimeoutError("timed out"), "oda-proxy: timed out\n"),
    ],
)
def test_an_error_of_the_system_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError, message: str
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr("oda_proxy.commands.recordings.ls", fail)

    assert main(["ls"]) == 1
    assert capsys.readouterr().err == message


def test_a_configuration_file_that_is_gone_or_emptied_when_it_is_read_again_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server would have gone on without its tokens, and evicted recordings down to the default size."""
    from oda_proxy.errors import UsageError
    from oda_proxy.servers import several_processes

    config = tmp_path / "oda-proxy.toml"
    config.write_text("workers = 2")
    monkeypatch.chdir(tmp_path)

    def serve(options: object, read_options: Callable[[], object], log: object) -> None:
        assert read_options() == options
        config.write_text("\n")
        with pytest.raises(UsageError, match=r"oda-proxy\.toml is empty, and was not"):
            read_options()
        config.unlink()
        with pytest.raises(UsageError, match=r"cannot read the configuration oda-proxy\.toml"):
            read_options()

    monkeypatch.setattr(several_processes, "serve_with_workers", serve)

    assert main(["serve", "--offline"]) == 0
