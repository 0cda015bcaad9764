"""Who may do what, and the limits of clients, with two workers: it does not matter which one a connection reaches."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from tests.support.image_query import run_image
from tests.support.servers import running
from tests.support.worker_servers import MANY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.slow

ADMIN, READ = "the administration token", "the reading token"


def send(
    url: str, method: str = "GET", headers: Mapping[str, str] | None = None, data: bytes | None = None
) -> tuple[int, Mapping[str, str], str]:
    """Send a request on a connection of its own."""
    request = urllib.request.Request(url, data, dict(headers or {}), method=method)  # noqa: S310 - on this machine
    try:
        with NO_REDIRECTS.open(request) as response:
            return response.status, dict(response.headers), response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read().decode()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


NO_REDIRECTS = urllib.request.build_opener(_NoRedirects())


def serve(folder: Path, upstream: str, *more: str) -> list[str]:
    (folder / "admin").touch(0o600)
    (folder / "admin").write_text(ADMIN)
    cache = ["--cache-dir", str(folder / "cache"), "--admin-token-file", str(folder / "admin"), "--read-token", READ]
    return ["serve", "--workers", "2", "--upstream", upstream, "--port", "0", *cache, *more]


def test_tokens_sessions_and_changes_are_the_same_at_both_workers(tmp_path: Path) -> None:
    with (
        running(tmp_path / "mock.log", "mock", "--port", "0", "--time-scale", "0") as mock,
        running(tmp_path / "proxy.log", *serve(tmp_path, mock.url, "--readers", "token")) as proxy,
    ):
        assert run_image(proxy.url)[-1] == "done"
        recordings, reader = f"{proxy.url}/-/api/recordings", {"Authorization": f"Bearer {READ}"}
        for _ in range(MANY):
            assert send(recordings)[0] == 401
            assert send(recordings, headers={"Authorization": "Bearer wrong"})[0] == 401
            status, _, text = send(recordings, headers=reader)
            assert (status, len(json.loads(text)["recordings"])) == (200, 1)
            assert send(recordings, headers=reader | {"Host": "rebound.example.org"})[0] == 421
            assert send(recordings, headers=reader | {"Origin": "https://example.org"})[0] == 403

        form = urlencode({"token": ADMIN}).encode()
        status, headers, _ = send(f"{proxy.url}/-/sign-in", "POST", data=form)
        session = {"Cookie": headers["Set-Cookie"].partition(";")[0], "Origin": proxy.url}
        key = json.loads(send(recordings, headers=reader)[2])["recordings"][0]["key"]
        assert status == 303
        for _ in range(MANY):
            assert send(f"{recordings}/{key}/pin", "POST", session)[0] == 200
        assert send(f"{proxy.url}/-/sign-out", "POST", session)[0] == 303
        assert {send(f"{recordings}/{key}/pin", "POST", session)[0] for _ in range(MANY)} == {401}
        assert send(f"{recordings}/{key}", "DELETE", {"Authorization": f"Bearer {ADMIN}"})[0] == 200
        assert send(f"{recordings}/{key}", headers=reader)[0] == 404


def test_a_limit_is_for_all_workers_together(tmp_path: Path) -> None:
    limits = ["--client-rate", "0.01", "--client-jobs", "1"]
    with (
        running(tmp_path / "mock.log", "mock", "--port", "0", "--time-scale", "0") as mock,
        running(tmp_path / "proxy.log", *serve(tmp_path, mock.url, *limits)) as proxy,
    ):
        statuses = [send(f"{proxy.url}/download_file")[0] for _ in range(MANY)]

        assert statuses.count(429) >= MANY - 2
        assert send(f"{proxy.url}/-/livez")[0] == 200
        assert send(f"{proxy.url}/-/status")[0] == 429


def test_clients_on_this_machine_are_readers_whichever_worker_they_reach(tmp_path: Path) -> None:
    with (
        running(tmp_path / "mock.log", "mock", "--port", "0", "--time-scale", "0") as mock,
        running(tmp_path / "proxy.log", *serve(tmp_path, mock.url)) as proxy,
    ):
        forwarded = {"X-Forwarded-For": "192.0.2.1"}
        assert {send(f"{proxy.url}/-/status")[0] for _ in range(MANY)} == {200}
        assert {send(f"{proxy.url}/-/status", headers=forwarded)[0] for _ in range(MANY)} == {401}
