"""Clients that accept a content coding read compressed recordings, with the same products and less on the wire."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.support.paths import FIXTURES
from tests.support.real_clients import environment
from tests.support.relay import relaying
from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.slow]

STORED: dict[str, Any] = json.loads((FIXTURES / "isgri/isgri_spectrum/4u1700-377/query.json").read_text())
SIZE = 1_900_000
"""Bytes of the answer, uncompressed, at least."""
CALL = json.dumps(
    {
        "instrument": STORED["instrument"],
        "product": STORED["product_type"],
        "product_type": STORED["query_type"],
        **STORED["parameters"],
    }
)


SERVE = ("serve", "--mock", "--time-scale", "0.01", "--port", "0")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a proxy over the mock that compresses for all clients, and return its address."""
    with running(tmp_path_factory.mktemp("proxy") / "log", *SERVE, "--compress", "always") as server:
        yield server.url


@pytest.fixture(scope="module")
def plain_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a proxy over the mock that compresses for none, and return its address."""
    with running(tmp_path_factory.mktemp("plain") / "log", *SERVE, "--compress", "never") as server:
        yield server.url


def fields(session: str) -> dict[str, str]:
    parameters = {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in STORED["parameters"].items()
    }
    return {
        "instrument": STORED["instrument"],
        "product_type": STORED["product_type"],
        "query_type": STORED["query_type"],
        **parameters,
        "api": "True",
        "query_status": "new",
        "session_id": session,
        "oda_api_version": "1.3.5",
    }


@pytest.fixture(scope="module")
def target(url: str) -> str:
    """Have the spectrum recorded and compressed in both codings; return its path and query."""
    path = f"/run_analysis?{urlencode(fields('ABCDEF'))}"
    for coding in ("gzip", "zstd"):
        deadline = time.monotonic() + PATIENCE
        while True:
            with closing(http.client.HTTPConnection(urlsplit(url).netloc)) as connection:
                connection.request("GET", path, headers={"Accept-Encoding": coding})
                response = connection.getresponse()
                response.read()
                if response.headers["Content-Encoding"] == coding:
                    break
            assert time.monotonic() < deadline, dict(response.headers)
    return path


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize("version", ["1.0", "1.1.0", "1.2.1", "1.3.5"])
def test_all_releases_of_the_client_read_it(
    run_client: Callable[..., Any], url: str, plain_url: str, version: str
) -> None:
    with relaying(url) as relay:
        (compressed,) = run_client(version, "get_product.py", relay.url, CALL)["answers"]
    (plain,) = run_client(version, "get_product.py", plain_url, CALL)["answers"]

    assert plain["products"]
    assert compressed["products"] == plain["products"]
    assert 10_000 < relay.received < SIZE / 2


WITH_URLLIB3 = """
import sys, urllib3
response = urllib3.PoolManager().request("GET", sys.argv[1], headers=urllib3.make_headers(accept_encoding=True))
sys.stdout.write(f"{response.headers['content-encoding']} {len(response.data)} {response.data[:22].decode()}")
"""


def test_urllib3_with_zstandard_reads_it(url: str, target: str) -> None:
    urllib3 = pytest.importorskip("urllib3", minversion="2")
    if "zstd" not in urllib3.util.make_headers(accept_encoding=True)["accept-encoding"]:
        pytest.skip("this urllib3 does not accept zstd")
    command = [sys.executable, "-c", WITH_URLLIB3, f"{url}{target}"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout

    coding, size, begin = printed.split(" ", 2)
    assert coding == "zstd"
    assert int(size) > SIZE
    assert begin == '{"query_status":"done"'


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_curl_reads_it(url: str, target: str, coding: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    file = tmp_path / "body"
    command = ["curl", "--silent", "--show-error", "--compressed", "--output", str(file)]
    command += ["--write-out", "%{size_download}", "--header", f"Accept-Encoding: {coding}", f"{url}{target}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    if coding == "zstd" and done.returncode == 61:
        pytest.skip("this curl does not know zstd")

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < SIZE / 2
    assert json.loads(file.read_bytes())["query_status"] == "done"


PAGE = """<body><script>
fetch(%s).then(response => response.text()).then(text => {
  document.body.innerText = "RESULT " + text.length + " " + JSON.parse(text).query_status;
}).catch(error => { document.body.innerText = "RESULT " + error; });
</script></body>"""


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_chromium_reads_it(url: str, target: str, coding: str, tmp_path: Path) -> None:
    """The page reads the body from a server of its own, because Chromium always accepts both codings."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Chromium")
    with closing(http.client.HTTPConnection(urlsplit(url).netloc)) as connection:
        connection.request("GET", target, headers={"Accept-Encoding": coding})
        body = connection.getresponse().read()

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_page = self.path == "/"
            content = (PAGE % '"/body"').encode() if is_page else body
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if is_page else "application/json")
            self.send_header("Content-Length", str(len(content)))
            if not is_page:
                self.send_header("Content-Encoding", coding)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
        command += ["--virtual-time-budget=20000", "--dump-dom", f"http://127.0.0.1:{server.server_port}/"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
        server.shutdown()
    if "RESULT" not in done.stdout:
        pytest.skip(f"Chromium does not run here: {done.stderr[-200:]}")

    _, size, status = done.stdout[done.stdout.rindex("RESULT") :].partition("<")[0].split()
    assert int(size) > SIZE
    assert status == "done"


WITH_REQUESTS = """
import sys, requests
response = requests.get(sys.argv[1])
print(response.headers["content-encoding"], len(response.text), response.json()["query_status"])
"""


def test_requests_reads_it(url: str, target: str) -> None:
    command = [str(environment("oda_api-1.3.5")), "-c", WITH_REQUESTS, f"{url}{target}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    coding, size, status = done.stdout.split()

    assert coding == "gzip"
    assert int(size) > SIZE
    assert status == "done"
