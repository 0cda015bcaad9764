"""Context managers run a server in a thread until the context ends."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import socket
import subprocess
import sys
import threading
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import jwt
import pytest

import oda_proxy
from mock_server import fixtures_folder
from oda_proxy.capsule.capsule import open_capsule
from oda_proxy.capsule.errors import CapsuleError, NotACapsuleError
from oda_proxy.errors import FixtureError, ListenError, OdaProxyError, UpstreamUnreachableError, UsageError
from oda_proxy.fixture import writing
from tests.support.image_query import IMAGE, get_image, get_image_and_headers, mock_status, run_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_OF_THE_CLIENT = ("query_status", "query_type", "api", "oda_api_version", "off_line", "session_id")
CALL = {name: word for name, word in IMAGE.items() if name not in _OF_THE_CLIENT} | {
    "product": IMAGE["product_type"],
    "product_type": "Real",
}
"""The arguments of `get_product` for the image."""
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


def test_a_mock_runs_until_its_context_ends_and_leaves_no_thread() -> None:
    with oda_proxy.mocking() as url:
        assert get_image(url)["query_status"] == "done"
        assert threads() == ["oda-proxy"]

    with pytest.raises(URLError):
        get_image(url)
    assert threads() == []


def test_an_address_is_on_this_machine_and_ends_without_a_slash() -> None:
    with oda_proxy.mocking() as url:
        assert url.startswith("http://127.0.0.1:")
        assert not url.endswith("/")


def test_an_error_in_the_context_is_raised_unchanged_and_ends_the_server() -> None:
    with pytest.raises(ZeroDivisionError), oda_proxy.mocking() as url:
        _ = 1 / 0

    with pytest.raises(URLError):
        get_image(url)
    assert threads() == []


def test_several_servers_run_at_once_each_with_its_own_state() -> None:
    with oda_proxy.mocking() as one, oda_proxy.mocking() as another:
        get_image(one)

        assert mock_status(one)["runs"] == 1
        assert mock_status(another)["runs"] == 0


async def test_a_context_works_within_a_running_event_loop() -> None:
    with oda_proxy.mocking() as url:
        answer = await asyncio.to_thread(get_image, url)

    assert answer["query_status"] == "done"


def test_a_context_ends_at_once_while_a_response_hangs() -> None:
    """The client is gone: the rest of the pause of an hour is cancelled."""
    with oda_proxy.mocking(faults={"do": "hang", "seconds": 3600}) as url:
        host, port = url.removeprefix("http://").split(":")
        client = socket.create_connection((host, int(port)))
        client.sendall(b"GET /run_analysis HTTP/1.1\r\nHost: here\r\n\r\n")
        while mock_status(url)["requests"].get("run_analysis") != 1:
            pass

    client.close()
    assert threads() == []


def test_a_second_context_reuses_the_port_of_the_first(closed_port: int) -> None:
    for _ in range(2):
        with oda_proxy.mocking(port=closed_port) as url:
            assert url == f"http://127.0.0.1:{closed_port}"
            get_image(url)


# -- errors at the start ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("context", "error", "message"),
    [
        (lambda: oda_proxy.mocking(scenario="nosuch"), UsageError, "there is no scenario 'nosuch'"),
        (lambda: oda_proxy.mocking(faults={"do": "nosuch"}), UsageError, "there is no fault 'nosuch'"),
        (lambda: oda_proxy.mocking(time_scale=-1.0), UsageError, "the time scale -1.0 is not valid"),
        (lambda: oda_proxy.mocking(time_scale="fast"), UsageError, "time_scale cannot be 'fast': it should be a num"),  # type: ignore[arg-type]
        (lambda: oda_proxy.mocking(seed=True), UsageError, "seed cannot be True: it should be a whole number"),
        (lambda: oda_proxy.mocking(synthetic="no"), UsageError, "synthetic cannot be 'no': it should be True or F"),  # type: ignore[arg-type]
        (lambda: oda_proxy.mocking(fixtures="/nosuch"), FixtureError, "/nosuch"),
        (lambda: oda_proxy.serving(cache="x"), UsageError, "there is no option 'cache': choose from admin_token, "),
        (lambda: oda_proxy.serving(max_rate=-1), UsageError, "max_rate must be a number above 0, not '-1'"),
        (lambda: oda_proxy.serving("ftp://x"), UsageError, "upstream must be an http"),
        (lambda: oda_proxy.serving("http://h", mock=True), UsageError, "say one of them"),
        (lambda: oda_proxy.serving("http://h", workers=2), UsageError, "run oda-proxy serve --workers 2"),
        (lambda: oda_proxy.replaying("/nosuch"), CapsuleError, "there is no capsule in /nosuch"),
        (lambda: oda_proxy.replaying("/nosuch", time_scale=-1), UsageError, "time_scale must be a number from 0"),
        (lambda: oda_proxy.recording("/nosuch", upstream="x"), UsageError, "upstream must be an http"),
        (lambda: oda_proxy.recording("/nosuch", upstream=""), UsageError, "upstream must be an http"),
        (lambda: oda_proxy.recording(""), UsageError, "the path of a file or folder must not be empty"),
        (lambda: oda_proxy.replaying("/nosuch", as_of="May"), UsageError, "as_of must be a date"),
        (lambda: oda_proxy.replaying("/nosuch", as_of="9999-01-01"), UsageError, "in the future"),
        (lambda: oda_proxy.replaying(" "), UsageError, "the path of a file or folder must not be empty"),
        (lambda: oda_proxy.mocking(fixtures=[""]), UsageError, "the path of a file or folder must not be empty"),
        (lambda: oda_proxy.mocking(secret_key=""), UsageError, "the secret key is empty"),
        (lambda: oda_proxy.serving(secret_key=" "), UsageError, "secret_key must be a key that is not empty"),  # noqa: S106 - no secret
        (lambda: oda_proxy.serving(""), UsageError, "upstream must be an http"),
        (lambda: oda_proxy.serving(cache_dir=""), UsageError, "cache_dir must be a folder"),
    ],
)
def test_an_invalid_argument_is_an_error_of_one_line_on_entry(
    context: Callable[[], AbstractContextManager[str]], error: type[OdaProxyError], message: str
) -> None:
    with pytest.raises(error, match=message) as raised, context():
        pytest.fail("the context was entered")

    assert "\n" not in str(raised.value)
    assert threads() == []


def test_an_unreachable_dispatcher_is_an_error_on_entry(tmp_path: Path, closed_port: int) -> None:
    with (
        pytest.raises(UpstreamUnreachableError, match="cannot reach the dispatcher"),
        oda_proxy.serving(f"http://127.0.0.1:{closed_port}", cache_dir=tmp_path),
    ):
        pytest.fail("the context was entered")


def test_a_port_in_use_is_an_error_on_entry() -> None:
    with oda_proxy.mocking() as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(ListenError, match="the port is in use"), oda_proxy.mocking(port=port):
            pytest.fail("the context was entered")


def test_private_recordings_that_a_changed_sharing_loses_are_logged_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"mock": True, "cache_dir": tmp_path, "secret_key": KEY, "time_scale": 0}
    token = jwt.encode({"sub": "somebody@example.org", "roles": "general", "exp": 4e9}, KEY, "HS256")
    with oda_proxy.serving(**options) as url:
        assert "stored" in get_image_and_headers(url, token=token)[1]["Cache-Status"]
        assert "hit" in get_image_and_headers(url, token=token)[1]["Cache-Status"]
    assert "private recordings" not in caplog.text

    for _ in range(2):
        caplog.clear()
        with oda_proxy.serving(**options, sharing="team"):
            pass
        assert "private recordings stored with --sharing subject: 1, which are not found with --sharing team" in (
            caplog.text
        )


# -- what is served --------------------------------------------------------------------------------


def test_faults_are_passed_as_dicts() -> None:
    fault = {"do": "status", "status": 503, "on": [2]}
    with oda_proxy.mocking(faults=[fault]) as url:
        assert run_image(url) == ["submitted", "broken", "ready", "done"]


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        ({}, "done"),
        ({"synthetic": False}, "failed"),
        ({"fixtures": fixtures_folder()}, "failed"),
        ({"fixtures": [fixtures_folder()], "synthetic": True}, "done"),
    ],
)
def test_data_are_synthetic_unless_fixtures_are_passed(arguments: dict[str, Any], outcome: str) -> None:
    with oda_proxy.mocking(**arguments) as url:
        assert get_image(url, RA="83.6", DEC="22.0")["query_status"] == outcome


def test_on_refusal_receives_the_reason_of_each_refusal() -> None:
    reasons: list[str] = []
    with oda_proxy.mocking(synthetic=False, on_refusal=reasons.append) as url:
        get_image(url)
        get_image(url, RA="250")
        get_image(url, instrument="nosuch")

    near, unknown = reasons
    assert near.endswith("in your query RA is 5.98654 deg smaller")
    assert "nosuch" in unknown


def test_a_proxy_stores_recordings_in_the_cache_dir(tmp_path: Path) -> None:
    options: dict[str, Any] = {"mock": True, "cache_dir": tmp_path, "time_scale": 0}
    with oda_proxy.serving(**options) as url:
        first, again = get_image_and_headers(url)[1]["Cache-Status"], get_image_and_headers(url)[1]["Cache-Status"]
    with oda_proxy.serving(**options) as url:
        later = get_image_and_headers(url)[1]["Cache-Status"]

    assert "stored" in first
    assert "hit" in again
    assert "hit" in later


def test_a_proxy_uses_its_upstream(tmp_path: Path) -> None:
    with oda_proxy.mocking() as mock, oda_proxy.serving(mock, cache_dir=tmp_path) as url:
        assert get_image(url)["query_status"] == "done"
        assert mock_status(mock)["runs"] == 1


def test_recordings_are_replayed_without_a_dispatcher(tmp_path: Path) -> None:
    with oda_proxy.mocking() as mock, oda_proxy.recording(tmp_path / "capsule", upstream=mock) as url:
        recorded = get_image(url)
    with oda_proxy.replaying(tmp_path / "capsule") as url:
        replayed = get_image(url)
        missed = get_image(url, RA="250")

    assert replayed["products"]["numpy_data_product_list"] == recorded["products"]["numpy_data_product_list"]
    assert "in your query RA is 5.98654 deg smaller" in missed["exit_status"]["message"]


@pytest.mark.parametrize(("as_of", "status"), [("2001-01-01", "failed"), ("TODAY", "done")])
def test_a_replay_answers_from_what_was_recorded_by_a_date(tmp_path: Path, as_of: str, status: str) -> None:
    with oda_proxy.mocking() as mock, oda_proxy.recording(tmp_path / "capsule", upstream=mock) as url:
        get_image(url)
    date = as_of.replace("TODAY", f"{datetime.now(UTC):%Y-%m-%d}")

    with oda_proxy.replaying(tmp_path / "capsule", as_of=date) as url:
        replayed = get_image(url)

    assert replayed["query_status"] == status
    message = f"as of {date}: there is no recording of isgri isgri_image as requested: it was recorded later, on "
    assert (message in str(replayed)) == (status == "failed")


def test_what_a_replay_missed_is_logged_at_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with oda_proxy.mocking() as mock, oda_proxy.recording(tmp_path / "capsule", upstream=mock) as url:
        get_image(url)
    with oda_proxy.replaying(tmp_path / "capsule") as url:
        get_image(url, RA="250")
        with pytest.raises(HTTPError) as raised:
            urlopen(f"{url}/nosuch", data=b"a post")  # noqa: S310 - on this machine
        raised.value.close()

    assert "missed: offline: there is no recording of isgri isgri_image" in caplog.text
    assert "missed: POST /nosuch: not recorded" in caplog.text


@pytest.mark.parametrize(("end", "exit_status"), [(None, 0), (ZeroDivisionError(), 1), (KeyboardInterrupt(), None)])
def test_a_capsule_has_the_exit_status_of_the_context(
    tmp_path: Path, end: BaseException | None, exit_status: int | None
) -> None:
    with oda_proxy.mocking() as mock, pytest.raises(type(end)) if end else nullcontext():
        _record(tmp_path, mock, end)

    capsule = open_capsule(tmp_path)
    assert capsule.exit_status == exit_status
    assert len(capsule.dispatchers[0].fixtures) == 1


def _record(folder: Path, mock: str, end: BaseException | None) -> None:
    with oda_proxy.recording(folder, upstream=mock) as url:
        get_image(url)
        if end:
            raise end


def test_an_existing_capsule_is_replaced_only_with_replace(tmp_path: Path) -> None:
    with oda_proxy.mocking() as mock:
        with oda_proxy.recording(tmp_path, upstream=mock) as url:
            get_image(url)
        with pytest.raises(NotACapsuleError), oda_proxy.recording(tmp_path, upstream=mock):
            pytest.fail("the context was entered")
        with oda_proxy.recording(tmp_path, upstream=mock, replace=True):
            assert len(open_capsule(tmp_path).dispatchers) == 1

    assert open_capsule(tmp_path).dispatchers == ()


def test_a_capsule_is_not_replaced_by_one_that_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(file: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", f"{file} ({len(content)})")

    with oda_proxy.mocking() as mock:
        with oda_proxy.recording(tmp_path / "paper", upstream=mock) as url:
            get_image(url)
        monkeypatch.setattr(writing, "_write", no_space)
        recording = oda_proxy.recording(tmp_path / "paper", upstream=mock, replace=True)
        with pytest.raises(CapsuleError, match=r"is not replaced: .* No space left on device"), recording as url:
            get_image(url)

    assert len(open_capsule(tmp_path / "paper").dispatchers[0].fixtures) == 1


@pytest.mark.parametrize("include_private", [False, True])
def test_private_responses_are_recorded_only_with_include_private(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, include_private: bool
) -> None:
    token = jwt.encode({"sub": "somebody@example.org", "roles": "general", "exp": 4e9}, KEY, "HS256")
    with (
        oda_proxy.mocking(secret_key=KEY) as mock,
        caplog.at_level(logging.WARNING, "oda_proxy.in_process"),
        oda_proxy.recording(tmp_path, upstream=mock, include_private=include_private) as url,
    ):
        assert get_image(url, token=token)["query_status"] == "done"

    assert bool(open_capsule(tmp_path).dispatchers[0].fixtures) == include_private
    assert ("requests with a token" in caplog.text) != include_private


@pytest.mark.real
def test_a_warm_cache_of_the_client_makes_no_empty_capsule(
    tmp_path: Path,
    client_python: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def get_product(url: str) -> None:
        program = (
            "import json, sys; from oda_api.api import DispatcherAPI; "
            "DispatcherAPI(url=sys.argv[1], use_local_cache=True).get_product(**json.loads(sys.argv[2]))"
        )
        command = [str(client_python("1.3.5")), "-c", program, url, json.dumps(CALL)]
        subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)

    warm = tmp_path / "warm"
    with oda_proxy.mocking() as mock:
        monkeypatch.setenv("ODA_CACHE", str(warm))  # not the empty one that the mock has set
        get_product(mock)
        assert list(warm.iterdir())
        with oda_proxy.recording(tmp_path / "capsule", upstream=mock) as url:
            get_product(url)

    assert len(open_capsule(tmp_path / "capsule").dispatchers[0].fixtures) == 1
    assert f"not used: the cache of oda_api in {warm}" in caplog.text


@pytest.mark.real
@pytest.mark.parametrize("version", ["1.0", "1.3.5"])
def test_an_unmodified_client_is_recorded_and_replayed(
    tmp_path: Path, run_client: Callable[..., Any], version: str
) -> None:
    call = json.dumps(CALL)
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
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert result.stdout.splitlines() == ["oda_proxy oda_proxy._version", "oda_proxy.in_process True"]


def test_the_names_at_the_top_are_not_those_of_modules() -> None:
    """An imported module would replace the function of the same name."""
    import oda_proxy.testing.cassette

    assert all(callable(getattr(oda_proxy, name)) for name in oda_proxy.__all__ if name != "__version__")
    assert set(oda_proxy.__all__) <= set(dir(oda_proxy))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'oda_proxy' has no attribute 'nosuch'"):
        _ = oda_proxy.nosuch


def test_a_mock_has_the_dummy_instruments_of_a_release() -> None:
    query = "run_analysis?instrument=empty&product_type=failing&query_type=Dummy&query_status=new&api=True"
    with (
        oda_proxy.mocking(dummy_instruments=True, dummy_release="1.3.3") as url,
        urlopen(f"{url}/{query}") as response,  # noqa: S310 - on this machine
    ):
        assert json.load(response)["exit_status"]["message"] == "failing query"
