"""Unmodified clients of all generations get every product through the proxy; without it each misses some."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.paths import CLIENT_SCRIPTS as CLIENTS
from tests.support.paths import DOCS
from tests.support.real_clients import environment
from tests.support.servers import PATIENCE, running
from tests.support.unreadable_responses import OLDER_NUMPY, UNREADABLE, VERSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

DOCUMENT = DOCS / "repairs.md"
TIMES = 2
"""Through the proxy each is asked for twice: the second answer is a hit, where it is not a failure."""


class Dispatcher(BaseHTTPRequestHandler):
    """It answers `run_analysis` by the name of the product, and says that it knows no parameters.

    As 1.3.6 does without a public address, it redirects the list of instruments to where it is not.
    """

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        status, body = 200, b"[]"
        if asked.path == "/instr-list":
            body = b'["isgri","jemx"]'
        elif "instr-list" in asked.path:
            status, body = (302, b"") if asked.path == "/api/instr-list" else (404, b"not here")
        if asked.path.endswith("/run_analysis"):
            broken = UNREADABLE[parse_qs(asked.query)["product_type"][0]]
            status, body = broken.status, broken.body
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 302:
            self.send_header("Location", f"http://{self.headers['Host']}/dispatch-data/instr-list")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def upstream_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Dispatcher) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def proxy_url(upstream_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("proxy")
    cache = str(folder / "cache")
    with running(folder / "log", "serve", "--upstream", upstream_url, "--port", "0", "--cache-dir", cache) as server:
        yield server.url


def asked(python: Path, url: str, folder: Path, times: int, products: list[str]) -> dict[str, Any]:
    """Ask for the instruments and for all the products with one client."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ODA_", "DISP_"))}
    result = subprocess.run(
        [python, CLIENTS / "ask_products.py", url, str(times), *products],
        cwd=folder,
        env={**env, "HOME": str(folder), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 3,
        check=True,
    )
    got: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return got


Told = dict[str, dict[str, Any]]
"""What the client of each version was told."""
Got = dict[str, list[dict[str, Any]]]
"""What the client of each version got, each time it asked."""


@pytest.fixture(scope="module")
def told(upstream_url: str, proxy_url: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, Told]:
    """Ask without the proxy, and through it."""
    runs = [(version, url, times) for version in VERSIONS for url, times in ((upstream_url, 1), (proxy_url, TIMES))]
    pythons = {
        version: environment("dispatcher-1.3.3" if version == OLDER_NUMPY else f"oda_api-{version}")
        for version in VERSIONS
    }

    def run(version: str, url: str, times: int) -> dict[str, Any]:
        return asked(pythons[version], url, tmp_path_factory.mktemp("client"), times, list(UNREADABLE))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        got = list(pool.map(run, *zip(*runs, strict=True)))
    return dict(zip(VERSIONS, got[::2], strict=True)), dict(zip(VERSIONS, got[1::2], strict=True))


@pytest.fixture(scope="module")
def direct(told: tuple[Told, Told]) -> Got:
    return {version: got["answers"] for version, got in told[0].items()}


@pytest.fixture(scope="module")
def through(told: tuple[Told, Told]) -> Got:
    return {version: got["answers"] for version, got in told[1].items()}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_list_of_instruments_comes_through_the_proxy_only(told: tuple[Told, Told], version: str) -> None:
    without, through = told

    assert without[version]["instruments"] in ("SystemExit", "UnexpectedDispatcherStatusCode")
    assert through[version]["instruments"] == ["isgri", "jemx"]


@pytest.mark.parametrize("name", UNREADABLE)
def test_without_the_proxy_these_releases_do_not_get_it(direct: Got, name: str) -> None:
    broken = UNREADABLE[name]

    harmed = tuple(version for version in VERSIONS if not broken.whole(direct[version][0][name], version))

    assert harmed == broken.harmed, {version: str(direct[version][0][name])[-600:] for version in VERSIONS}


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("version", VERSIONS)
def test_through_the_proxy_every_release_gets_it(through: Got, version: str, name: str) -> None:
    for got in through[version]:
        assert UNREADABLE[name].whole(got[name], version), str(got[name])[-1500:]


@pytest.mark.parametrize("name", [name for name, broken in UNREADABLE.items() if broken.repair != "failure"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_hit_is_what_the_first_asker_got(through: Got, version: str, name: str) -> None:
    first, hit = (got[name] for got in through[version])

    assert first == hit


def data_of(got: dict[str, Any]) -> Any:
    return [[unit["data"] for unit in product.get("units", [])] for product in got["products"]]


READABLE = [
    (version, name)
    for version in VERSIONS
    for name, broken in UNREADABLE.items()
    if version not in broken.harmed and broken.repair != "failure"
]


@pytest.mark.parametrize(("version", "name"), READABLE)
def test_what_a_release_reads_without_the_proxy_it_reads_bit_for_bit_through_it(
    direct: Got, through: Got, version: str, name: str
) -> None:
    before, after = direct[version][0][name], through[version][1][name]

    assert data_of(after) == data_of(before)
    for product, now in zip(before["products"], after["products"], strict=True):
        assert product.get("written") is not True or now["written"] is True


def test_the_table_in_the_documentation_is_from_this_run(direct: Got, through: Got) -> None:
    marks = {True: "yes", False: "no"}
    rows = []
    for name, broken in UNREADABLE.items():
        row = [marks[broken.whole(direct[version][0][name], version)] for version in VERSIONS]
        row += [marks[all(broken.whole(got[name], version) for got in through[version])] for version in VERSIONS]
        rows.append(f"| {broken.about} | {broken.repair} | {' | '.join(row)} |")

    missing = [row for row in rows if row not in DOCUMENT.read_text().splitlines()]
    assert not missing, "\n".join(rows)
