"""Unmodified clients of all generations read every product through the proxy; without it each fails for some."""

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
"""Through the proxy each product is requested twice: the second response is a hit, unless it is a failure."""


class Dispatcher(BaseHTTPRequestHandler):
    """A dispatcher that answers `run_analysis` by the name of the product, and describes no parameters.

    Like 1.3.6 without a public address, it redirects the list of instruments to an address that does not exist.
    """

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        status, body = 200, b"[]"
        if url.path == "/instr-list":
            body = b'["isgri","jemx"]'
        elif "instr-list" in url.path:
            status, body = (302, b"") if url.path == "/api/instr-list" else (404, b"not here")
        if url.path.endswith("/run_analysis"):
            broken = UNREADABLE[parse_qs(url.query)["product_type"][0]]
            status, body = broken.status, broken.body
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 302:
            self.send_header("Location", f"http://{self.headers['Host']}/dispatch-data/instr-list")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


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


def request_products(python: Path, url: str, folder: Path, times: int, products: list[str]) -> dict[str, Any]:
    """Request the list of instruments and all the products with one client; return what it read."""
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
    outcome: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return outcome


Outcomes = dict[str, dict[str, Any]]
"""By version of the client: its list of instruments, and its products."""
Products = dict[str, list[dict[str, Any]]]
"""By version of the client: the products of each round of requests."""


@pytest.fixture(scope="module")
def outcomes(upstream_url: str, proxy_url: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcomes, Outcomes]:
    """Request everything without the proxy, and through it."""
    runs = [(version, url, times) for version in VERSIONS for url, times in ((upstream_url, 1), (proxy_url, TIMES))]
    pythons = {
        version: environment("dispatcher-1.3.3" if version == OLDER_NUMPY else f"oda_api-{version}")
        for version in VERSIONS
    }

    def run(version: str, url: str, times: int) -> dict[str, Any]:
        return request_products(pythons[version], url, tmp_path_factory.mktemp("client"), times, list(UNREADABLE))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(run, *zip(*runs, strict=True)))
    return dict(zip(VERSIONS, results[::2], strict=True)), dict(zip(VERSIONS, results[1::2], strict=True))


@pytest.fixture(scope="module")
def direct(outcomes: tuple[Outcomes, Outcomes]) -> Products:
    return {version: outcome["answers"] for version, outcome in outcomes[0].items()}


@pytest.fixture(scope="module")
def through(outcomes: tuple[Outcomes, Outcomes]) -> Products:
    return {version: outcome["answers"] for version, outcome in outcomes[1].items()}


@pytest.mark.parametrize("version", VERSIONS)
def test_only_the_proxy_makes_the_list_of_instruments_work(outcomes: tuple[Outcomes, Outcomes], version: str) -> None:
    without, through = outcomes

    assert without[version]["instruments"] in ("SystemExit", "UnexpectedDispatcherStatusCode")
    assert through[version]["instruments"] == ["isgri", "jemx"]


@pytest.mark.parametrize("name", UNREADABLE)
def test_without_the_proxy_these_releases_do_not_read_it(direct: Products, name: str) -> None:
    broken = UNREADABLE[name]

    harmed = tuple(version for version in VERSIONS if not broken.whole(direct[version][0][name], version))

    assert harmed == broken.harmed, {version: str(direct[version][0][name])[-600:] for version in VERSIONS}


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("version", VERSIONS)
def test_through_the_proxy_every_release_reads_it(through: Products, version: str, name: str) -> None:
    for got in through[version]:
        assert UNREADABLE[name].whole(got[name], version), str(got[name])[-1500:]


@pytest.mark.parametrize("name", [name for name, broken in UNREADABLE.items() if broken.repair != "failure"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_hit_is_read_as_the_first_response(through: Products, version: str, name: str) -> None:
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
    direct: Products, through: Products, version: str, name: str
) -> None:
    before, after = direct[version][0][name], through[version][1][name]

    assert data_of(after) == data_of(before)
    for product, now in zip(before["products"], after["products"], strict=True):
        assert product.get("written") is not True or now["written"] is True


def test_the_table_in_the_documentation_is_from_this_run(direct: Products, through: Products) -> None:
    marks = {True: "yes", False: "no"}
    rows = []
    for name, broken in UNREADABLE.items():
        row = [marks[broken.whole(direct[version][0][name], version)] for version in VERSIONS]
        row += [marks[all(broken.whole(got[name], version) for got in through[version])] for version in VERSIONS]
        rows.append(f"| {broken.about} | {broken.repair} | {' | '.join(row)} |")

    undocumented = [row for row in rows if row not in DOCUMENT.read_text().splitlines()]
    assert not undocumented, "\n".join(rows)
