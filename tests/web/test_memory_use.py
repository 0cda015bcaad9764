"""Large answers take little memory, whether they come from a recording or pass through."""

from __future__ import annotations

import hashlib
import http.client
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import jwt
import pytest

from tests.support.dispatcher_responses import SESSION, answer, json_bytes
from tests.support.scripted import KEY
from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.servers import Server

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc"),
    pytest.mark.slow,  # moves 2 GB
]

MB = 1_000_000
QUERY = f"instrument=isgri&product_type=isgri_image&query_type=Real&api=True&query_status=new&session_id={SESSION}"
RECORDED = 25 * MB
PRODUCTS = RECORDED
"""Bytes that are compared."""
HUGE = 1000 * MB
PIECE = b"x" * MB


class Upstream(BaseHTTPRequestHandler):
    """A dispatcher with large answers: a recording's, or one that is made as it is sent."""

    protocol_version = "HTTP/1.1"
    large: ClassVar[bytes] = b""

    def do_GET(self) -> None:
        asked = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        match asked.get("huge", [""])[0]:
            case "with-length":
                self.send_header("Content-Length", str(HUGE))
                self.end_headers()
                for _ in range(HUGE // MB):
                    self.wfile.write(PIECE)
            case "in-chunks":
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for _ in range(HUGE // MB):
                    self.wfile.write(b"%x\r\n%b\r\n" % (MB, PIECE))
                self.wfile.write(b"0\r\n\r\n")
            case _:
                body = self.large if "RA" in asked else b"[]"
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run the dispatcher; its recording holds an array of 25 million bytes that compress badly, as arrays do."""
    digits = hashlib.shake_256(b"seed").hexdigest(RECORDED // 2)
    echo = {**answer()["products"]["analysis_parameters"], "RA": "83.0"}
    products = {"catalog": {"large": digits}, "numpy_data_product_list": [], "analysis_parameters": echo}
    monkeypatch.setattr(Upstream, "large", json_bytes(answer(products=products)))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def get(url: str, query: str) -> tuple[str, int, str]:
    """Send a request and read the answer piece by piece; return its Cache-Status, size and digest of products."""
    size, place, left, digest = 0, -1, PRODUCTS, hashlib.sha256()
    with closing(http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=PATIENCE * 4)) as connection:
        connection.request("GET", f"/run_analysis?{QUERY}&{query}")
        response = connection.getresponse()
        assert response.status == 200
        while piece := response.read(MB):
            size += len(piece)
            if place < 0:  # the products begin in the first piece
                place = max(piece.find(b'"catalog"'), 0)
                piece = piece[place:]
            digest.update(piece[:left])
            left -= len(piece[:left])
    return response.headers["Cache-Status"], size, digest.hexdigest()


def memory(server: Server, name: str) -> int:
    """Give what a program takes now (`VmRSS`) or took at most (`VmHWM`), in bytes."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize(("held", "limit"), [("0", 32), ("256MB", 32 + 25)])
def test_16_readers_of_a_recording_of_25_mb_take_less_than_32_mb(
    upstream: str, tmp_path: Path, held: str, limit: int
) -> None:
    """Beside the recording itself, once, where it stays in memory."""
    arguments = ["serve", "--upstream", upstream, "--port", "0", "--cache-dir", str(tmp_path / "cache")]
    arguments += ["--memory", held]
    products = Upstream.large[Upstream.large.index(b'"catalog"') :]
    sent = hashlib.sha256(products[:PRODUCTS]).hexdigest()
    with running(tmp_path / "log", *arguments) as proxy:
        told, size, digest = get(proxy.url, "RA=83.0")
        assert told.endswith("stored")
        assert size > RECORDED
        assert digest == sent
    with running(tmp_path / "log", *arguments) as proxy:
        before = memory(proxy, "VmRSS")
        for _ in range(2):
            with ThreadPoolExecutor(16) as pool:
                answers = list(pool.map(lambda _: get(proxy.url, "RA=83.0"), range(16)))
            assert {told for told, _, _ in answers} == {"oda-proxy; hit"}
            assert {digest for _, _, digest in answers} == {sent}
        grown = memory(proxy, "VmHWM") - before

    assert grown < limit * 1024 * 1024


def test_six_private_answers_of_25_mb_take_less_than_twice_the_memory_of_one(upstream: str, tmp_path: Path) -> None:
    """They repeat the tokens of their clients, and wait in files that only the proxy can read."""
    folder = tmp_path / "cache"
    arguments = ["serve", "--upstream", upstream, "--port", "0", "--cache-dir", str(folder), "--secret-key", KEY]
    grown = []
    for clients in (["alone"], ["ann", "bob", "cat", "dan", "eve", "fay"]):
        with running(tmp_path / "log", *arguments) as proxy:
            before = memory(proxy, "VmRSS")
            tokens = [jwt.encode({"sub": name, "exp": time.time() + 1e6}, KEY, "HS256") for name in clients]
            with ThreadPoolExecutor(len(tokens)) as pool:
                statuses = list(pool.map(lambda token: status_of(proxy.url, f"RA=83.0&token={token}"), tokens))
            grown.append(memory(proxy, "VmHWM") - before)
        assert {status.endswith(("stored", "hit")) for status in statuses} == {True}

    assert grown[1] < 2 * grown[0]


def status_of(url: str, query: str) -> str:
    """Send a query until it has ended; return its Cache-Status."""
    while True:
        status, size, _ = get(url, query)
        if size > RECORDED:
            return status


@pytest.mark.parametrize("huge", ["with-length", "in-chunks"])
def test_an_answer_of_1_gb_passes_through_in_little_memory(upstream: str, tmp_path: Path, huge: str) -> None:
    with running(
        tmp_path / "log", "serve", "--upstream", upstream, "--port", "0", "--cache-dir", str(tmp_path / "cache")
    ) as proxy:
        before = memory(proxy, "VmRSS")

        told, size, _ = get(proxy.url, f"huge={huge}")

        grown = memory(proxy, "VmHWM") - before
    assert (told, size) == ("oda-proxy; fwd=uri-miss; fwd-status=200; detail=too-large", HUGE)
    assert grown < 64 * 1024 * 1024
