"""Servers in a thread of this process are there for the time of a block, whatever happens in it."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
import threading
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

import jwt
import pytest

import oda_proxy
from mock_server import fixtures_folder
from oda_proxy.capsule.capsule import CapsuleError, NotACapsuleError, open_capsule
from oda_proxy.errors import FixtureError, ListenError, OdaProxyError, UpstreamUnreachableError, UsageError
from tests.support.asking_images import IMAGE, ask, asked, status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = "a key that is long enough for HMAC with SHA-256"


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("oda-proxy")]


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


# -- blocks ----------------------------------------------------------------------------------------


def test_a_mock_answers_for_the_time_of_its_block_and_leaves_no_thread() -> None:
    with oda_proxy.mocking() as url:
        assert ask(url)["query_status"] == "done"
        assert threads() == ["oda-proxy"]

    with pytest.raises(URLError):
        ask(url)
    assert threads() == []


def test_an_address_is_on_this_machine_and_ends_without_a_slash() -> None:
    with oda_proxy.mocking() as url:
        assert url.startswith("http://127.0.0.1:")
        assert not url.endswith("/")


def test_an_error_in_the_block_is_raised_as_it_is_and_ends_the_server() -> None:
    with pytest.raises(ZeroDivisionError), oda_proxy.mocking() as url:
        _ = 1 / 0

    with pytest.raises(URLError):
        ask(url)
    assert threads() == []


def test_several_servers_are_there_at_once_each_with_its_own_state() -> None:
    with oda_proxy.mocking() as one, oda_proxy.mocking() as another:
        ask(one)

        assert status(one)["runs"] == 1
        assert status(another)["runs"] == 0


async def test_a_block_works_where_a_loop_is_running_as_in_a_notebook() -> None:
    with oda_proxy.mocking() as url:
        answer = await asyncio.to_thread(ask, url)

    assert answer["query_status"] == "done"


def test_a_block_ends_at_once_where_an_answer_hangs() -> None:
    """The client has gone; nobody waits for the rest of the pause of an hour."""
    with oda_proxy.mocking(faults={"do": "hang", "seconds": 3600}) as url:
        host, port = url.removeprefix("http://").split(":")
        client = socket.create_connection((host, int(port)))
        client.sendall(b"GET /run_analysis HTTP/1.1\r\nHost: here\r\n\r\n")
        while status(url)["requests"].get("run_analysis") != 1:
            pass

    client.close()
    assert threads() == []


def test_a_second_block_takes_the_port_of_the_first(closed_port: int) -> None:
    for _ in range(2):
        with oda_proxy.mocking(port=closed_port) as url:
            assert url == f"http://127.0.0.1:{closed_port}"
            ask(url)


# -- errors at the start ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "error", "words"),
    [
        (lambda: oda_proxy.mocking(scenario="nosuch"), UsageError, "there is no scenario 'nosuch'"),
        (lambda: oda_proxy.mocking(faults={"do": "nosuch"}), UsageError, "there is no fault 'nosuch'"),
        (lambda: oda_proxy.mocking(time_scale=-1.0), UsageError, "the time scale -1.0 is no factor"),
        (lambda: oda_proxy.mocking(fixtures="/nosuch"), FixtureError, "/nosuch"),
        (lambda: oda_proxy.serving(cache="x"), UsageError, "there is no option 'cache': choose from cache_dir, "),
        (lambda: oda_proxy.serving(max_rate=-1), UsageError, "max_rate must be a number above 0, not '-1'"),
        (lambda: oda_proxy.serving("ftp://x"), UsageError, "upstream must be an http"),
        (lambda: oda_proxy.serving("http://h", mock=True), UsageError, "say one of them"),
        (lambda: oda_proxy.replaying("/nosuch"), CapsuleError, "there is no capsule in /nosuch"),
        (lambda: oda_proxy.replaying("/nosuch", time_scale=-1), UsageError, "time_scale must be a number from 0"),
        (lambda: oda_proxy.recording("/nosuch", upstream="x"), UsageError, "upstream must be an http"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line_where_the_block_begins(
    block: Callable[[], AbstractContextManager[str]], error: type[OdaProxyError], words: str
) -> None:
    with pytest.raises(error, match=words) as raised, block():
        pytest.fail("the block was begun")

    assert "\n" not in str(raised.value)
    assert threads() == []


def test_a_dispatcher_that_is_not_there_is_told_where_the_block_begins(tmp_path: Path, closed_port: int) -> None:
    with (
        pytest.raises(UpstreamUnreachableError, match="cannot reach the dispatcher"),
        oda_proxy.serving(f"http://127.0.0.1:{closed_port}", cache_dir=tmp_path),
    ):
        pytest.fail("the block was begun")


def test_a_port_that_is_taken_is_told_where_the_block_begins() -> None:
    with oda_proxy.mocking() as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(ListenError, match="the port is in use"), oda_proxy.mocking(port=port):
            pytest.fail("the block was begun")


# -- what is served --------------------------------------------------------------------------------


def test_faults_are_given_in_words() -> None:
    fault = {"do": "status", "status": 503, "on": [2]}
    with oda_proxy.mocking(faults=[fault]) as url:
        assert ask(url)["query_status"] == "done"
        with pytest.raises(json.JSONDecodeError):
            ask(url)
        assert ask(url)["query_status"] == "done"


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        ({}, "done"),
        ({"synthetic": False}, "failed"),
        ({"fixtures": fixtures_folder()}, "failed"),
        ({"fixtures": [fixtures_folder()], "synthetic": True}, "done"),
    ],
)
def test_data_are_made_up_unless_fixtures_are_given_or_it_is_not_wanted(given: dict[str, Any], outcome: str) -> None:
    with oda_proxy.mocking(**given) as url:
        assert ask(url, RA="83.6", DEC="22.0")["query_status"] == outcome


def test_why_a_mock_refuses_is_told_to_who_wants_to_know() -> None:
    told: list[str] = []
    with oda_proxy.mocking(synthetic=False, on_refusal=told.append) as url:
        ask(url)
        ask(url, RA="250")
        ask(url, instrument="nosuch")

    near, unknown = told
    assert near.endswith("in your query RA is 5.98654 deg smaller")
    assert "nosuch" in unknown


def test_a_proxy_keeps_what_it_is_asked_for_in_the_folder_that_is_named(tmp_path: Path) -> None:
    options: dict[str, Any] = {"mock": True, "cache_dir": tmp_path, "time_scale": 0}
    with oda_proxy.serving(**options) as url:
        first, again = asked(url)[1]["Cache-Status"], asked(url)[1]["Cache-Status"]
    with oda_proxy.serving(**options) as url:
        later = asked(url)[1]["Cache-Status"]

    assert "stored" in first
    assert "hit" in again
    assert "hit" in later


def test_a_proxy_asks_the_dispatcher_that_is_named(tmp_path: Path) -> None:
    with oda_proxy.mocking() as mock, oda_proxy.serving(mock, cache_dir=tmp_path) as url:
        assert ask(url)["query_status"] == "done"
        assert status(mock)["runs"] == 1


def test_what_is_recorded_is_replayed_with_nobody_there(tmp_path: Path) -> None:
    with oda_proxy.mocking() as mock, oda_proxy.recording(tmp_path / "capsule", upstream=mock) as url:
        recorded = ask(url)
    with oda_proxy.replaying(tmp_path / "capsule") as url:
        replayed = ask(url)
        missed = ask(url, RA="250")

    assert replayed["products"]["numpy_data_product_list"] == recorded["products"]["numpy_data_product_list"]
    assert "in your query RA is 5.98654 deg smaller" in missed["exit_status"]["message"]


@pytest.mark.parametrize(("end", "exit_status"), [(None, 0), (ZeroDivisionError(), 1), (KeyboardInterrupt(), None)])
def test_a_capsule_says_how_the_block_ended(tmp_path: Path, end: BaseException | None, exit_status: int | None) -> None:
    with oda_proxy.mocking() as mock, pytest.raises(type(end)) if end else nullcontext():
        _record(tmp_path, mock, end)

    capsule = open_capsule(tmp_path)
    assert capsule.exit_status == exit_status
    assert len(capsule.dispatchers[0].fixtures) == 1


def _record(folder: Path, mock: str, end: BaseException | None) -> None:
    with oda_proxy.recording(folder, upstream=mock) as url:
        ask(url)
        if end:
            raise end


def test_a_capsule_that_is_there_is_replaced_only_where_that_is_wanted(tmp_path: Path) -> None:
    with oda_proxy.mocking() as mock:
        with oda_proxy.recording(tmp_path, upstream=mock) as url:
            ask(url)
        with pytest.raises(NotACapsuleError), oda_proxy.recording(tmp_path, upstream=mock):
            pytest.fail("the block was begun")
        with oda_proxy.recording(tmp_path, upstream=mock, replace=True):
            pass

    assert open_capsule(tmp_path).dispatchers == ()


@pytest.mark.parametrize("include_private", [False, True])
def test_what_was_asked_with_a_token_is_left_out_with_a_warning_unless_it_is_wanted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, include_private: bool
) -> None:
    token = jwt.encode({"sub": "somebody@example.org", "roles": "general", "exp": 4e9}, KEY, "HS256")
    with (
        oda_proxy.mocking(secret_key=KEY) as mock,
        caplog.at_level(logging.WARNING, "oda_proxy.in_process"),
        oda_proxy.recording(tmp_path, upstream=mock, include_private=include_private) as url,
    ):
        assert ask(url, token=token)["query_status"] == "done"

    assert bool(open_capsule(tmp_path).dispatchers[0].fixtures) == include_private
    assert ("asked for with a token" in caplog.text) != include_private


@pytest.mark.real
@pytest.mark.parametrize("version", ["1.0", "1.3.5"])
def test_an_unmodified_client_asks_in_a_block(tmp_path: Path, run_client: Callable[..., Any], version: str) -> None:
    own = ("query_status", "query_type", "api", "oda_api_version", "off_line", "session_id")
    call = json.dumps(
        {**{name: word for name, word in IMAGE.items() if name not in own}, "product_type": "Real"}
        | {"product": IMAGE["product_type"]}
    )
    with ExitStack() as stack:
        mock = stack.enter_context(oda_proxy.mocking())
        url = stack.enter_context(oda_proxy.recording(tmp_path / "capsule", upstream=mock))
        recorded = run_client(version, "get_product.py", url, call)
    with oda_proxy.replaying(tmp_path / "capsule") as url:
        replayed = run_client(version, "get_product.py", url, call)

    assert recorded["answers"][0]["products"]
    assert replayed["answers"] == recorded["answers"]


# -- the package -----------------------------------------------------------------------------------


def test_importing_the_package_imports_nothing_of_it() -> None:
    program = (
        "import sys; before = set(sys.modules); import oda_proxy; "
        "print(*sorted(name for name in set(sys.modules) - before if not name.startswith(('_', 'typing')))); "
        "print(oda_proxy.replaying.__module__, 'aiohttp' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert told.stdout.splitlines() == ["oda_proxy oda_proxy._version", "oda_proxy.in_process True"]


def test_the_names_at_the_top_are_not_those_of_modules() -> None:
    """A module would take the place of the function once it was imported."""
    import oda_proxy.testing.cassette

    assert all(callable(getattr(oda_proxy, name)) for name in oda_proxy.__all__ if name != "__version__")
    assert set(oda_proxy.__all__) <= set(dir(oda_proxy))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'oda_proxy' has no attribute 'nosuch'"):
        _ = oda_proxy.nosuch
