"""Real clients of a real dispatcher, with and without the proxy between them."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlencode

import pytest

from mock_server.tokens import make_token
from tests.support.servers import DISPATCHER_SETTINGS, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

VERSIONS = ["1.3.5", "1.0"]
SESSION = "SESSIONOFTHETEST"


@pytest.fixture
def proxy_url(dispatcher_url: str, tmp_path: Path) -> Iterator[str]:
    cache = str(tmp_path / "cache")
    with running(
        tmp_path / "log", "serve", "--upstream", dispatcher_url, "--port", "0", "--cache-dir", cache
    ) as server:
        yield server.url


@pytest.fixture
def dispatcher(dispatcher_url: str, dispatcher_folder: Path) -> tuple[str, Path]:
    """Return the URL of the real dispatcher and the folder in which it works."""
    return dispatcher_url, dispatcher_folder


def counts(proxy_url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{proxy_url}/-/status") as response:  # noqa: S310 - an address on this machine
        counters: dict[str, int] = json.load(response)["run_analysis"]
    return counters


def get(url: str, **parameters: str) -> tuple[int, Any, dict[str, str]]:
    """Send a request without a client; return status, JSON and headers."""
    try:
        with urllib.request.urlopen(f"{url}?{urlencode(parameters)}") as response:  # noqa: S310 - as above
            return response.status, json.load(response), dict(response.headers)
    except HTTPError as error:
        with error:
            return error.code, json.load(error), dict(error.headers)


def dummy(product: str, instrument: str = "empty", **more: Any) -> str:
    return json.dumps({"instrument": instrument, "product": product, "product_type": "Dummy", **more})


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("product", ["dummy", "parametrical"])
def test_products_are_the_same_as_without_the_proxy_and_the_second_request_is_a_hit(
    run_client: Callable[..., Any], dispatcher_url: str, proxy_url: str, version: str, product: str
) -> None:
    arguments = dummy(product, RA=83.63, DEC=22.01)

    direct = run_client(version, "get_product.py", dispatcher_url, arguments)["answers"]
    first = run_client(version, "get_product.py", proxy_url, arguments)["answers"]
    second = run_client(version, "get_product.py", proxy_url, arguments)["answers"]

    assert "error" not in direct[0], direct
    assert first == second == direct
    assert counts(proxy_url).items() >= {"hits": 1, "asked": 1, "failed": 0, "kept": 1, "echo_differs": 0}.items()


def test_a_reused_client_has_one_job_id_for_the_same_query_and_another_for_a_different_one(
    run_client: Callable[..., Any], dispatcher_url: str, proxy_url: str
) -> None:
    """As `test_reusing_disp_instance` of the suite of `oda_api`."""
    day, two_days = (dummy("dummy", T1="2021-05-01T11:11:11", T2=f"2021-05-0{n}T11:11:11") for n in (2, 3))

    for url in (dispatcher_url, proxy_url):
        first, second, other = run_client("1.3.5", "reuse_client.py", url, day, day, two_days)

        assert [state["query_status"] for state in (first, second, other)] == ["done", "done", "done"]
        assert first["job_id"] == second["job_id"] != other["job_id"]
    assert counts(proxy_url).items() >= {"hits": 1, "asked": 2}.items()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_failure_is_reported_as_without_the_proxy_and_is_not_stored(
    run_client: Callable[..., Any], dispatcher_url: str, proxy_url: str, version: str
) -> None:
    arguments = dummy("failing")

    direct = run_client(version, "get_product.py", dispatcher_url, arguments)["answers"]
    through = [run_client(version, "get_product.py", proxy_url, arguments)["answers"] for _ in range(2)]

    assert direct[0]["error"] in {"RemoteException", "SystemExit"}
    assert through == [direct, direct]
    assert counts(proxy_url).items() >= {"hits": 0, "asked": 2, "failed": 0, "kept": 0, "echo_differs": 0}.items()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_product_that_needs_a_role_stays_forbidden(
    run_client: Callable[..., Any], dispatcher_url: str, proxy_url: str, version: str
) -> None:
    arguments = dummy("numerical", p=55)

    direct = run_client(version, "get_product.py", dispatcher_url, arguments)["answers"]
    through = run_client(version, "get_product.py", proxy_url, arguments)["answers"]

    assert direct[0]["error"] in {"Unauthorized", "SystemExit"}
    assert through == direct
    parameters = {"instrument": "empty", "product_type": "numerical", "query_type": "Dummy", "query_status": "new"}
    status, body, _ = get(f"{proxy_url}/run_analysis", **parameters, p="55", api="True", session_id=SESSION)
    assert (status, body["query_status"]) == (403, "failed")
    assert "general" in body["exit_status"]["message"]
    assert counts(proxy_url)["kept"] == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_descriptions_are_the_same_as_without_the_proxy(
    run_client: Callable[..., Any], dispatcher_url: str, proxy_url: str, version: str
) -> None:
    direct = run_client(version, "describe.py", dispatcher_url, "empty", "parametrical")
    through = run_client(version, "describe.py", proxy_url, "empty", "parametrical")

    assert "empty" in direct["instruments"]
    assert through == direct


@pytest.mark.parametrize("path", ["api/par-names", "api/meta-data"])
def test_descriptions_are_equal_and_the_second_request_is_a_hit(dispatcher_url: str, proxy_url: str, path: str) -> None:
    query = {"instrument": "empty", "product_type": "parametrical"}

    direct = get(f"{dispatcher_url}/{path}", **query)
    first = get(f"{proxy_url}/mmoda/dispatch-data/{path}", **query)
    second = get(f"{proxy_url}/{path}", **query)

    assert first[:2] == second[:2] == direct[:2]
    assert first[2]["Cache-Status"] == "oda-proxy; fwd=uri-miss; fwd-status=200; stored"
    assert second[2]["Cache-Status"] == "oda-proxy; hit"


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        (",progress,done,", "submitted submitted progress ready done"),
        ("progress,failed", "submitted progress failed"),
    ],
)
def test_an_asynchronous_job_is_followed_through_the_proxy(
    run_client: Callable[..., Any],
    dispatcher: tuple[str, Path],
    proxy_url: str,
    actions: str,
    expected: str,
) -> None:
    dispatcher_url, folder = dispatcher
    back_end, states = folder / "DataServerQuery-status.state", expected.split()
    # A job has one state for all clients: the runs with and without the proxy need one each.
    for url, ra in ((dispatcher_url, 1.25), (proxy_url, 2.75)):
        arguments = {
            "instrument": "empty-async",
            "product": "dummy",
            "product_type": "Real",
            "RA": ra,
            "DEC": len(states),
        }
        followed = run_client(
            "1.3.5", "follow_job.py", url, dispatcher_url, str(back_end), json.dumps(arguments), actions
        )
        back_end.unlink(missing_ok=True)
        # The proxy fetches the products when they are ready: clients see `done` at once.
        expected_states = states if url == dispatcher_url else expected.replace("ready", "done").split()
        assert followed["states"] == expected_states, url

    assert counts(proxy_url)["kept"] == (states[-1] == "done")


def test_a_bad_request_has_the_message_of_the_dispatcher(dispatcher_url: str, proxy_url: str) -> None:
    query = {"instrument": "empty", "product_type": "dummy", "query_type": "Dummy", "query_status": "new", "RA": "a"}

    direct, through = (get(f"{url}/run_analysis", **query, api="True") for url in (dispatcher_url, proxy_url))

    assert direct[0] == through[0] == 400
    assert (through[1]["error"], through[1]["error_message"]) == (direct[1]["error"], direct[1]["error_message"])
    assert through[1]["exit_status"]["message"] == direct[1]["error_message"]  # where clients up to 1.1.0 read it
    assert "config" in direct[1]
    assert "config" not in through[1]
    assert through[2]["Cache-Status"] == "oda-proxy; fwd=uri-miss; fwd-status=400"


def test_the_session_of_a_client_is_not_on_disk(dispatcher_url: str, proxy_url: str, tmp_path: Path) -> None:
    query = {"instrument": "empty", "product_type": "parametrical", "query_type": "Dummy", "query_status": "new"}
    get(f"{proxy_url}/run_analysis", **query, api="True", session_id=SESSION, oda_api_version="1.3.5")
    assert counts(proxy_url)["kept"] == 1

    files = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]

    assert files
    assert [file for file in files if SESSION.encode() in file.read_bytes()] == []
    assert SESSION not in (tmp_path / "log").read_text()


def token(sub: str, roles: str = "general") -> str:
    """Return a token that the real dispatcher accepts."""
    payload = {"sub": sub, "roles": roles, "exp": time.time() + 600}
    return make_token(payload, DISPATCHER_SETTINGS["secret_key"])


def test_a_product_that_needs_a_role_is_a_hit_for_its_owner_only(
    run_client: Callable[..., Any], dispatcher_url: str, proxy_url: str
) -> None:
    def answer_of(url: str, **more: str) -> Any:
        return run_client("1.3.5", "get_product.py", url, dummy("numerical", p=5, **more))["answers"][0]

    one, other = token("one@example.org"), token("other@example.org")
    direct = answer_of(dispatcher_url, token=one)
    direct["products"][0]["name"] = ""  # the proxy repairs null, at which clients up to 1.1.0 fail

    assert answer_of(proxy_url, token=one) == answer_of(proxy_url, token=one) == direct
    assert counts(proxy_url)["hits"] == 1
    assert answer_of(proxy_url, token=other) == direct
    assert answer_of(proxy_url, token=token("one@example.org", roles="another"))["error"] == "Unauthorized"
    assert answer_of(proxy_url)["error"] == "Unauthorized"
    assert counts(proxy_url)["hits"] == 1


def test_a_token_that_was_issued_again_gets_the_recording_and_a_forged_one_does_not(
    dispatcher_url: str, proxy_url: str
) -> None:
    query = {"instrument": "empty", "product_type": "dummy", "query_type": "Dummy", "query_status": "new"}
    query |= {"session_id": SESSION, "api": "True", "RA": "12.25"}
    claims = {"sub": "again@example.org", "roles": "general", "exp": time.time() + 3600}
    first, again = (make_token({**claims, "mssub": new}, DISPATCHER_SETTINGS["secret_key"]) for new in (False, True))
    forged = make_token(claims, "a key that is not the dispatcher's")

    for sent, cache_status in (
        (first, "oda-proxy; fwd=request; fwd-status=200; stored"),
        (again, "oda-proxy; hit"),
        (forged, "oda-proxy; fwd=request; fwd-status=403"),
    ):
        status, body, headers = get(f"{proxy_url}/run_analysis", **query, token=sent)
        direct = get(f"{dispatcher_url}/run_analysis", **query, token=sent)
        assert (status, body.get("error_message")) == (direct[0], direct[1].get("error_message"))
        assert headers["Cache-Status"] == cache_status
