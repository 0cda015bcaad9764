"""Several upstreams in one server: each has its own prefix, recordings, jobs and pages."""

from __future__ import annotations

import json
import logging
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

import pytest

import oda_proxy
from oda_proxy.commands.serve_options import resolve_serve
from oda_proxy.config.settings import ServeOptions
from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.in_process import in_thread
from oda_proxy.servers.one_process import proxy_listening
from tests.support.image_query import get_image, get_image_and_headers, mock_status
from tests.support.servers import running
from tests.support.worker_servers import MANY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MISS, HIT = "oda-proxy; fwd=uri-miss; fwd-status=200; stored", "oda-proxy; hit"
AWAY = "http://127.0.0.1:9"
"""Nobody listens there."""


@pytest.fixture
def mocks() -> Iterator[tuple[str, str]]:
    with oda_proxy.mocking() as production, oda_proxy.mocking() as staging:
        yield production, staging


def tables(folder: Path, production: str, staging: str, prefix: str = "/", others: str = "") -> Path:
    file = folder / "several.toml"
    file.write_text(
        f'port = 0\ncache-dir = "{folder / "cache"}"\n'
        f'[upstream.production]\nurl = "{production}"\nprefix = "{prefix}"\n'
        f'[upstream.staging]\nurl = "{staging}"\n{others}\n'
    )
    return file


@contextmanager
def serving(file: Path) -> Iterator[str]:
    values = resolve_serve({}, {}, file, warn=pytest.fail)
    options = ServeOptions(**{name.replace("-", "_"): value for name, value in values.items()})
    with in_thread(proxy_listening(options, shutdown_timeout=0.2)) as url:
        yield url


def status(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/-/status") as response:  # noqa: S310 - on this machine
        members: dict[str, Any] = json.load(response)
    return members


def text(url: str) -> str:
    with urllib.request.urlopen(url) as response:  # noqa: S310 - on this machine
        return str(response.read().decode())


def cache_status(url: str, **changes: str) -> str:
    return str(get_image_and_headers(url, **changes)[1]["Cache-Status"])


def test_a_recording_of_one_upstream_is_never_the_answer_of_another(tmp_path: Path, mocks: tuple[str, str]) -> None:
    with serving(tables(tmp_path, *mocks)) as url:
        found = [cache_status(f"{url}{prefix}") for prefix in ("", "/staging", "", "/staging", "//staging")]

    assert found == [MISS, MISS, HIT, HIT, HIT]
    assert [mock_status(mock)["runs"] for mock in mocks] == [1, 1]
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_an_upstream_that_is_named_after_a_date_or_a_collection_is_not_answered_by_that_at_the_root(
    tmp_path: Path, mocks: tuple[str, str]
) -> None:
    with serving(tables(tmp_path, *mocks)) as url:
        for scope in ("/as-of/2026-01-01", "/as-of/2026-01-01/only", "/in/my-paper", "/in/a/as-of/2026-01"):
            with pytest.raises(HTTPError) as raised:
                urllib.request.urlopen(f"{url}{scope}/staging/run_analysis?instrument=isgri&api=True")  # noqa: S310 - on this machine
            with raised.value as error:
                assert error.code == 400
                assert json.load(error)["error"] == f"the prefix of an upstream comes first: write /staging{scope}"
        assert cache_status(f"{url}/in/staging") == MISS
    assert [mock_status(mock)["runs"] for mock in mocks] == [1, 0]


def test_answers_name_the_address_with_the_prefix(tmp_path: Path, mocks: tuple[str, str]) -> None:
    with serving(tables(tmp_path, *mocks)) as url:
        answers = [[get_image(f"{url}{prefix}") for _ in range(2)] for prefix in ("", "/staging")]

    assert f"DispatcherAPI(url='{url}'," in answers[0][1]["products"]["api_code"]
    assert f"DispatcherAPI(url='{url}/staging'," in answers[1][1]["products"]["api_code"]


def test_each_upstream_has_its_own_pages_which_name_it_and_the_others(tmp_path: Path, mocks: tuple[str, str]) -> None:
    with serving(tables(tmp_path, *mocks)) as url:
        get_image(f"{url}/staging")
        pages = [status(f"{url}{prefix}") for prefix in ("", "/staging")]
        figures = [text(f"{url}{prefix}/-/metrics") for prefix in ("", "/staging")]

    for jobs, page in zip(("0.0", "1.0"), figures, strict=True):
        assert f"oda_proxy_jobs_started_total {jobs}\n" in page
    assert [(page["name"], page["upstream"]) for page in pages] == [("production", mocks[0]), ("staging", mocks[1])]
    assert [page["run_analysis"]["jobs"] for page in pages] == [0, 1]
    assert [page["store"]["recordings"] for page in pages] == [0, 1]
    listed = [
        {"name": "production", "prefix": "/", "url": mocks[0]},
        {"name": "staging", "prefix": "/staging", "url": mocks[1]},
    ]
    assert [page["upstreams"] for page in pages] == [listed, listed]


def test_pages_for_people_name_their_upstream_and_lead_to_the_others(tmp_path: Path, mocks: tuple[str, str]) -> None:
    with serving(tables(tmp_path, *mocks)) as url:
        pages = {path: html(f"{url}{path}") for path in ("/-/", "/staging/-/", "/staging/-/jobs")}

    for path, page in pages.items():
        name, other = ("staging", "production") if path.startswith("/staging") else ("production", "staging")
        prefixes = {"production": "", "staging": "/staging"}
        assert f'<a href="{url}{prefixes[name]}/-/" aria-current="true">{name}</a>' in page
        assert f'<a href="{url}{prefixes[other]}/-/">{other}</a>' in page
        assert f" {name}</title>" in page


@pytest.mark.parametrize("front", ["", 'public-url = "https://example.org/oda"'])
def test_pages_have_the_headers_of_the_proxy_below_each_prefix(
    tmp_path: Path, mocks: tuple[str, str], front: str
) -> None:
    file = tables(tmp_path, *mocks, prefix="/production")
    file.write_text(f"{front}\n{file.read_text()}")
    paths = [f"{deployment}{prefix}/-/livez" for deployment in ("", "/oda")[: 1 + bool(front)] for prefix in PREFIXES]
    with serving(file) as url:
        for path in paths:
            with urllib.request.urlopen(f"{url}{path}") as response:  # noqa: S310 - on this machine
                assert response.headers["Cache-Status"] == "oda-proxy", path
                assert response.read() == b"ok\n"


PREFIXES = ("", "/production", "/staging")


def html(url: str) -> str:
    request = urllib.request.Request(url, headers={"Accept": "text/html"})  # noqa: S310 - on this machine
    with urllib.request.urlopen(request) as response:  # noqa: S310 - on this machine
        return str(response.read().decode())


def test_other_routes_go_to_the_upstream_of_their_prefix_without_it(tmp_path: Path, mocks: tuple[str, str]) -> None:
    with serving(tables(tmp_path, *mocks)) as url:
        for _ in range(2):  # the second is cached
            urllib.request.urlopen(f"{url}/staging/api/meta-data?instrument=isgri").close()  # noqa: S310 - on this machine

    assert [mock_status(mock)["requests"].get("api/meta-data", 0) for mock in mocks] == [0, 1]


def test_a_change_is_logged_with_its_upstream(
    tmp_path: Path, mocks: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    file = tables(tmp_path, *mocks)
    file.write_text(f'admin-token = "the administration token"\n{file.read_text()}')
    file.chmod(0o600)
    with serving(file) as url, caplog.at_level(logging.INFO):
        get_image(f"{url}/staging")
        everything = urllib.request.Request(  # noqa: S310 - on this machine
            f"{url}/staging/-/api/recordings?instrument=*&confirm=yes",
            method="DELETE",
            headers={"Authorization": "Bearer the administration token"},
        )
        urllib.request.urlopen(everything).close()  # noqa: S310 - on this machine

    (line,) = [line for line in caplog.messages if line.startswith("remove the recordings")]
    assert " of the upstream staging: 200, for the administrator at 127.0.0.1" in line


def test_a_path_without_upstream_names_the_prefixes(tmp_path: Path, mocks: tuple[str, str]) -> None:
    with serving(tables(tmp_path, *mocks, prefix="/production")) as url:
        assert [one["prefix"] for one in status(url)["upstreams"]] == ["/production", "/staging"]
        with urllib.request.urlopen(f"{url}/-/livez") as response:  # noqa: S310 - on this machine
            assert response.read() == b"ok\n"
        with pytest.raises(HTTPError) as raised:
            urllib.request.urlopen(f"{url}/run_analysis?instrument=isgri")  # noqa: S310 - on this machine
        with raised.value as error:
            assert error.code == 404
            assert error.read().decode().endswith("use the address of one of them: /production, /staging\n")
        assert cache_status(f"{url}/production") == MISS


def test_one_upstream_offline_and_one_away_do_not_concern_the_others(
    tmp_path: Path, mocks: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tables(tmp_path, mocks[0], AWAY)) as url:
        assert cache_status(url) == MISS
        assert get_image(f"{url}/staging")["query_status"] == "failed"
    assert f"cannot reach the dispatcher {AWAY}" in caplog.text

    with serving(tables(tmp_path, *mocks, others="offline = true")) as url:
        assert cache_status(url) == HIT
        assert "offline" in get_image(f"{url}/staging")["exit_status"]["message"]
        assert cache_status(url, RA="250") == MISS


def test_the_only_upstream_has_to_answer_as_before(tmp_path: Path) -> None:
    with pytest.raises(UpstreamUnreachableError), oda_proxy.serving(AWAY, cache_dir=tmp_path):
        pass


def test_clients_of_all_upstreams_are_answered_when_the_server_stops(tmp_path: Path) -> None:
    """A server that ends has told its clients the state of their jobs, and the next one has the jobs of all."""
    with oda_proxy.mocking(time_scale=1000) as production, oda_proxy.mocking(time_scale=1000) as staging:
        file = tables(tmp_path, production, staging)
        with serving(file) as url:
            begun = [get_image(f"{url}{prefix}")["query_status"] for prefix in ("", "/staging")]
        with serving(file) as url:
            again = [get_image(f"{url}{prefix}")["query_status"] for prefix in ("", "/staging")]
            jobs = [mock_status(mock)["jobs"] for mock in (production, staging)]

    assert begun == again == ["submitted", "submitted"]
    assert jobs == [1, 1]


@pytest.mark.slow
def test_workers_serve_all_upstreams_and_the_leader_has_the_jobs_of_each(
    tmp_path: Path, mocks: tuple[str, str]
) -> None:
    file = tables(tmp_path, *mocks)
    with running(tmp_path / "log", "serve", "--workers", "2", "--config", str(file)) as server:
        prefixes = ("", "/staging")
        first = [cache_status(f"{server.url}{prefix}") for prefix in prefixes]
        later = {cache_status(f"{server.url}{prefix}") for prefix in prefixes * (MANY // 2)}
        pages = [status(f"{server.url}{prefix}") for prefix in prefixes]
        codes = {get_image(f"{server.url}/staging")["products"]["api_code"] for _ in range(MANY)}
        log = server.end()

    assert (first, later) == ([MISS, MISS], {HIT})
    assert [(page["name"], len(page["workers"])) for page in pages] == [("production", 2), ("staging", 2)]
    assert [page["run_analysis"]["hits"] for page in pages] == [MANY // 2, MANY // 2]
    assert [mock_status(mock)["runs"] for mock in mocks] == [1, 1]
    assert all(f"DispatcherAPI(url='{server.url}/staging'," in code for code in codes)
    assert "GET /staging/run_analysis 200 oda-proxy; hit" in log
