"""Latency of small hits while the proxy is quiet, and while it streams large answers and stores one of 57 MB.

A probe sends small hits at a constant rate, and measures each from the time at which it was due: a request that waits
because the one before it waits counts in full. Quiet and busy phases alternate in one run. In the busy ones ten clients
read a recording of 57 MB, each at a limited rate, and one client after another sends a query whose answer, of 57 MB, is
not stored yet. A second probe requests `/-/livez`, which needs neither the store nor a thread: its latency is the time
for which the event loop is held. A third one requests a ready answer of a bare aiohttp handler in another process that
has nothing else to do: its latency is the time for which the probe and a server wait for a CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import parse_qs, urlencode, urlsplit

from aiohttp import web

from mock_server.settings import fixtures_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

RATE = 50.0
"""Small hits per second; /-/livez is requested as often."""
CONNECTIONS = 8
"""Keep-alive connections of a probe."""
READERS = 10
PACE = 4_000_000
"""Bytes per second that one reader of a large answer takes."""
LARGE = 57_000_000
SMALL_SIZE, LARGE_SIZE = "83.0", "84.0"
"""Values of RA for which the dispatcher returns a small and a large answer."""
PROBES = ("small hit", "/-/livez", "bare handler")
LIMIT, FAR_OFF = 3.0, 15.0
"""What the ratio of the 99th percentiles should be at most, and where it fails."""


def target(right_ascension: str, number: int, session: str = "LATENCYBENCHMARK") -> str:
    """Return the target of a request for `run_analysis`; each `number` is another query."""
    fields = {
        "instrument": "isgri",
        "product_type": "isgri_spectrum",
        "query_type": "Real",
        "T1": "2003-03-15T23:27:40.0",
        "T2": "2003-03-16T00:03:15.0",
        "RA": right_ascension,
        "DEC": "-37.844167",
        "radius": str(15 + number),
        "off_line": "False",
        "query_status": "new",
        "session_id": session,
        "api": "True",
        "oda_api_version": "1.3.5",
    }
    return f"/run_analysis?{urlencode(fields)}"


class Dispatcher(BaseHTTPRequestHandler):
    """A dispatcher that answers at once, with a small or a large answer."""

    protocol_version = "HTTP/1.1"
    small: ClassVar[bytes] = b""
    large: ClassVar[bytes] = b""

    def do_GET(self) -> None:
        """Answer a query."""
        fields = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        products = self.large if fields.get("RA") == LARGE_SIZE else self.small
        echo = {name: value for name, value in fields.items() if name not in {"session_id", "query_status"}}
        answer = (
            b'{"products":{"analysis_parameters":%b,%b},"exit_status":{"status":0,"message":"","error_message":"",'
            b'"debug_message":"","comment":"","warning":"","job_status":"done"},"job_status":"done","query_status":'
            b'"done","session_id":"%b","job_monitor":{"job_id":"0123456789abcdef","status":"done"}}'
        ) % (json.dumps(echo).encode(), products, fields.get("session_id", "").encode())
        body = answer if "RA" in fields else b"[]"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def products(size: int) -> bytes:
    """Return the members of `products` of the notebook's spectrum, with its tables repeated up to `size` bytes."""
    command = [sys.executable, "-m", "oda_proxy.cli", "mock", "--port", "0", "--time-scale", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("listening on ").strip()
        query = json.loads(next((fixtures_folder() / "isgri" / "isgri_spectrum").glob("*/query.json")).read_text())
        fields = {name: query[name] for name in ("instrument", "product_type", "query_type")}
        fields |= {**query["parameters"], "api": "True", "query_status": "new"}
        while (answer := json.loads(get(url, f"/run_analysis?{urlencode(fields)}")))["query_status"] != "done":
            time.sleep(0.1)
        process.terminate()
    tables = answer["products"]["numpy_data_product_list"]
    one = len(json.dumps(tables))
    members = {"numpy_data_product_list": tables[:1] if one > size else tables * (size // one)}
    return json.dumps(members).encode()[1:-1]


def get(url: str, path: str) -> bytes:
    """Return the body of a response."""
    with closing(HTTPConnection(urlsplit(url).netloc)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read()


def serve_answers() -> int:
    """Run the dispatcher in this process, until it is ended."""
    Dispatcher.small = b'"numpy_data_product_list":[],"input_prod_list":["%b"]' % (b"x" * 3000)
    Dispatcher.large = products(LARGE)
    with ThreadingHTTPServer(("127.0.0.1", 0), Dispatcher) as server:
        print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
    return 0


async def serve_ready() -> None:
    """Run the bare handler in this process, until it is ended."""

    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * 3000, content_type="application/json")

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"listening on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


def read_large(url: str) -> int:
    """Read large recordings in this process, at a limited rate, and have others stored, until it is ended."""
    print("reading", flush=True)
    for _ in range(READERS):
        threading.Thread(target=read_slowly, args=(url,), daemon=True).start()
    number = int(time.time())  # queries that were not sent in an earlier phase
    while True:
        number += 1
        get(url, target(LARGE_SIZE, number))


def read_slowly(url: str) -> None:
    """Read the large recording again and again, at `PACE`."""
    piece = memoryview(bytearray(64 * 1024))
    while True:
        with closing(HTTPConnection(urlsplit(url).netloc)) as connection:
            connection.request("GET", target(LARGE_SIZE, 0))
            response = connection.getresponse()
            began, received = time.monotonic(), 0
            while size := response.readinto(piece):
                received += size
                time.sleep(max(began + received / PACE - time.monotonic(), 0))


def wait_for_jobs(url: str) -> None:
    """Wait until no job runs: one that was started by a client runs on without it."""
    while json.loads(get(url, "/-/jobs"))["jobs"]:
        time.sleep(0.2)


async def latencies(url: str, path: str, seconds: float) -> list[float]:
    """Return the latencies in s of requests at `RATE`, each from the time at which it was due."""
    loop, due = asyncio.get_running_loop(), asyncio.Queue[float]()
    found: list[float] = []

    async def connection() -> None:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while (at := await due.get()) > 0:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            assert head.startswith(b"HTTP/1.1 200"), head
            found.append(loop.time() - at)
        writer.close()

    tasks = [asyncio.create_task(connection()) for _ in range(CONNECTIONS)]
    begin = loop.time() + 0.2
    for number in range(int(seconds * RATE)):
        at = begin + number / RATE
        await asyncio.sleep(at - loop.time())
        due.put_nowait(at)
    for _ in tasks:
        due.put_nowait(-1.0)
    await asyncio.gather(*tasks)
    return found


async def phase(url: str, bare: str, seconds: float) -> list[list[float]]:
    """Return the latencies in s of small hits, of `/-/livez` and of the bare handler, sent at the same time."""
    targets = ((url, target(SMALL_SIZE, 0)), (url, "/-/livez"), (bare, "/"))
    return await asyncio.gather(*(latencies(server, path, seconds) for server, path in targets))


@contextmanager
def running(log: Path, *command: str) -> Iterator[str]:
    """Run a program that logs to a file, until the block ends; yield what its first line names."""
    with (
        log.open("a") as errors,
        subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            yield process.stdout.readline().removeprefix("listening on ").strip()
        finally:
            process.terminate()


def percentile(values: list[float], percent: int) -> float:
    """Return a percentile, in ms."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] * 1000


def row(name: str, values: list[float]) -> str:
    """Return one line of the table, in ms."""
    columns = [percentile(values, 50), percentile(values, 90), percentile(values, 99), max(values) * 1000]
    return f"| {name:24} | {' | '.join(f'{value:8.1f}' for value in columns)} |"


def main() -> int:
    """Print the table; return 1 where the ratio is far off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one phase")
    parser.add_argument("--phases", type=int, default=2, help="phases of each kind")
    parser.add_argument("--serve-answers", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--serve-ready", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--read-large", metavar="URL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve_answers:
        return serve_answers()
    if arguments.serve_ready:
        asyncio.run(serve_ready())
    if arguments.read_large:
        return read_large(arguments.read_large)
    quiet: list[list[float]] = [[] for _ in PROBES]
    busy: list[list[float]] = [[] for _ in PROBES]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        log = Path(folder) / "log"
        upstream = stack.enter_context(running(log, __file__, "--serve-answers"))
        bare = stack.enter_context(running(log, __file__, "--serve-ready"))
        serve = [
            "-m",
            "oda_proxy.cli",
            "serve",
            "--upstream",
            upstream,
            "--port",
            "0",
            "--cache-dir",
            f"{folder}/cache",
        ]
        url = stack.enter_context(running(log, *serve, "--max-rate", "1000"))
        get(url, target(SMALL_SIZE, 0)), get(url, target(LARGE_SIZE, 0))  # stored for the hits
        for _ in range(arguments.phases):
            wait_for_jobs(url)
            for total, one in zip(quiet, asyncio.run(phase(url, bare, arguments.seconds)), strict=True):
                total.extend(one)
            with running(log, __file__, "--read-large", url):
                time.sleep(1.0)  # until all readers read
                for total, one in zip(busy, asyncio.run(phase(url, bare, arguments.seconds)), strict=True):
                    total.extend(one)
    print(f"| {'ms':24} | {'median':>8} | {'90 %':>8} | {'99 %':>8} | {'longest':>8} |")
    print("|---|---|---|---|---|")
    for name, when_quiet, when_busy in zip(PROBES, quiet, busy, strict=True):
        print(row(f"{name}, quiet", when_quiet))
        print(row(f"{name}, busy", when_busy))
    ratios = [percentile(two, 99) / percentile(one, 99) for one, two in zip(quiet, busy, strict=True)]
    print(f"99th percentile of small hits, busy over quiet: {ratios[0]:.1f} (limit {LIMIT}, far off from {FAR_OFF})")
    print(f"That of the bare handler, which waits only for a CPU: {ratios[-1]:.1f}")
    return ratios[0] > FAR_OFF


if __name__ == "__main__":
    sys.exit(main())
