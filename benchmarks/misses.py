"""What a miss costs: time until the first byte and memory that the proxy adds, and how long others wait meanwhile.

Answers are requested from a dispatcher that has them ready, directly and through the proxy, in turn, each
time as another query: spectra of which each has the same response matrix, and images that are all different, of 4.4 MB
and 57.7 MB, pickled by numpy 2, so that every array is repaired. Meanwhile another client requests a small page of the
proxy again and again.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from mock_server.settings import fixtures_folder
from oda_proxy.codec import fits
from oda_proxy.codec.product import DataProduct, DataUnit
from oda_proxy.codec.wire import encode_product

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL, LARGE = 4_400_000, 57_700_000
"""Sizes of answers in bytes: a spectrum of some sources, and one of 31, each with its response matrix."""
FIRST = 1_500_000
"""Size of an answer that is requested first, and not measured."""
ROUNDS = {SMALL: 7, LARGE: 3}
MAX_MS_PER_MB = 15.0
"""Limit for the time that the proxy adds until the first byte, in ms for each MB of the answer."""
MAX_BODIES = 3.0
"""Limit for the memory that an answer adds, in units of its size."""
TOLERANCE = 4.0
"""The benchmark fails only where memory, or time of the processor, is beyond this multiple of its limit.

Times of the clock depend on what else the machine does.
"""
MATRIX_ROWS = 1010
"""Rows of a response matrix of 256 channels, so that it takes some 1.8 MB."""
SIDE = 430
"""Pixels of an image along each axis."""
READ_SIZE = 64 * 1024
DESCRIPTION = b'[[{"instrumet":"isgri"},{"prod_dict":{}}]]'
NO_QUEUES = ("--max-requests", "1000", "--max-rate", "1000")
"""The proxy pauses for no dispatcher."""

COLUMNS = (
    "answer",
    "size",
    "first byte directly",
    "added until the first byte",
    "ms for each MB",
    "ms of the processor for each MB",
    "added until the end",
    "memory added, in bodies",
    "others wait",
)


# -- answers ---------------------------------------------------------------------------------------


def pickled(unit: dict[str, Any], data: DataUnit) -> dict[str, Any]:
    """Return a data unit with its array as the numpy of this machine pickles it for a dispatcher: protocol 2."""
    if data.data is None:
        return unit
    return {**unit, "binarys": base64.b64encode(np.asarray(data.data).dumps()).decode()}


def product(name: str, units: tuple[DataUnit, ...]) -> str:
    """Return a product as JSON text."""
    encoded = encode_product(DataProduct(name, {"src_name": name, "product": "isgri"}, units))
    encoded["data_unit_list"] = list(map(pickled, encoded["data_unit_list"], units))
    return json.dumps(encoded, separators=(",", ":"))


def spectra() -> Iterator[str]:
    """Yield spectra of different sources, each followed by the same response matrix."""
    random = np.random.default_rng(1)
    folder = fixtures_folder() / "isgri" / "isgri_spectrum" / "4u1700-377"
    primary, matrix_unit = fits.read((folder / "isgri_rmf.fits").read_bytes())[:2]
    matrix = np.zeros(MATRIX_ROWS, [("ENERG_LO", ">f4"), ("ENERG_HI", ">f4"), ("MATRIX", ">f4", (256,))])
    matrix["MATRIX"] = random.random((MATRIX_ROWS, 256))
    response = product("", (primary, DataUnit("SPECRESP MATRIX", matrix_unit.header[:8], matrix, "bintable")))
    number = 0
    while True:
        number += 1
        counts = np.zeros(256, [("CHANNEL", ">i2"), ("RATE", ">f4"), ("STAT_ERR", ">f4")])
        counts["RATE"] = random.random(256)
        yield product(f"source {number}", (primary, DataUnit("SPECTRUM", (), counts, "bintable")))
        yield response


def images() -> Iterator[str]:
    """Yield images, all different, with the headers of a shipped one."""
    random = np.random.default_rng(2)
    folder = fixtures_folder() / "isgri" / "isgri_image" / "4u1700-377"
    primary, *_, first = fits.read((folder / "mosaic_image.fits").read_bytes())
    number = 0
    while True:
        number += 1
        pixels = random.standard_normal((SIDE, SIDE)).astype(">f4")
        yield product(f"mosaic {number}", (primary, DataUnit("ISGR-MOSA-IMA", first.header[:40], pixels, "image")))


def products_of(makes: Iterator[str], size: int) -> str:
    """Return products as JSON text of about `size` characters."""
    texts: list[str] = []
    while sum(map(len, texts)) < size:
        texts.append(next(makes))
    while sum(map(len, texts)) > size * 1.05 and len(texts) > 1:
        texts.pop()
    return ",".join(texts)


@dataclass
class Dispatcher:
    """A dispatcher that has its answers ready, by the `T1` of the query."""

    products: dict[str, str] = field(default_factory=dict)
    url: str = ""

    def body(self, kind: str, session_id: str, job_id: str) -> bytes:
        """Return an answer."""
        rest = {
            "query_status": "done",
            "exit_status": {"status": 0, "message": "", "error_message": "", "debug_message": "", "comment": ""},
            "job_monitor": {"job_id": job_id, "session_id": session_id, "status": "done"},
            "job_status": "done",
            "session_id": session_id,
        }
        names = f'"session_id":"{session_id}","job_id":"{job_id}"'
        begin = f'{{"products":{{"numpy_data_product_list":[{self.products[kind]}],{names}}},'
        return f"{begin}{json.dumps(rest)[1:]}\n".encode("ascii")


class Handler(BaseHTTPRequestHandler):
    """Sends the answers of the dispatcher."""

    protocol_version = "HTTP/1.1"
    dispatcher: ClassVar[Dispatcher]

    def do_GET(self) -> None:
        """Send an answer, or a description without parameters."""
        fields = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        kind = fields.get("kind")
        body = (
            self.dispatcher.body(kind, fields["session_id"], f"{hash(self.path):016x}"[-16:]) if kind else DESCRIPTION
        )
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def serve_dispatcher() -> None:
    """Serve the answers until standard input ends; runs in a process of its own."""
    dispatcher = Dispatcher()
    dispatcher.products = {
        f"{name}-{size}": products_of(makes(), size)
        for name, makes in (("spectra", spectra), ("images", images))
        for size in (*ROUNDS, FIRST)
    }
    Handler.dispatcher = dispatcher
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        sys.stdin.read()
        server.shutdown()


# -- measurements ----------------------------------------------------------------------------------


@contextmanager
def started(*command: str, log: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a program until the block ends; yield its process and the address that it prints."""
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().removeprefix("listening on ").strip()
        finally:
            process.terminate()


def request(url: str, kind: str, number: int) -> tuple[float, float, int, str]:
    """Send a query; return the s until the first byte and the end, the size of the answer, and its Cache-Status."""
    words = {"instrument": "isgri", "product_type": "isgri_spectrum", "query_type": "Real", "api": "True"}
    words |= {"query_status": "new", "session_id": f"SESSION{number:09d}", "kind": kind, "radius": f"{number}.5"}
    words |= {"oda_api_version": "1.3.5"}
    with closing(http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=120)) as connection:
        began = time.perf_counter()
        connection.request("GET", f"/run_analysis?{urllib.parse.urlencode(words)}")
        response = connection.getresponse()
        size = len(response.read(1))
        first = time.perf_counter() - began
        while some := response.read(READ_SIZE):
            size += len(some)
        return first, time.perf_counter() - began, size, response.headers.get("Cache-Status", "")


def completed(url: str, kind: str, number: int) -> tuple[float, float, int, str]:
    """Send a query until its job has ended; the times count from the first request."""
    began = time.perf_counter()
    while True:
        sent = time.perf_counter() - began
        first, total, size, status = request(url, kind, number)
        if not status.endswith("detail=running"):
            return sent + first, sent + total, size, status


def processes(pid: int) -> Iterator[int]:
    """Yield a process and all that it started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from processes(int(child))


def memory(pid: int, name: str) -> int:
    """Return what a process and those that it started take (`VmRSS`) or took at most (`VmHWM`), in bytes."""
    total = 0
    for one in processes(pid):
        lines = Path(f"/proc/{one}/status").read_text().splitlines()
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
    return total


def processor_time(pid: int) -> float:
    """Return the s that a process and those that it started have computed."""
    fields = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in processes(pid)]
    return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


def reset_peak(pid: int) -> None:
    """Set the highest resident size of a process and those that it started to the size of now."""
    for one in processes(pid):
        Path(f"/proc/{one}/clear_refs").write_text("5")


class Neighbour:
    """Another client, that requests a small page every few ms."""

    def __init__(self, url: str) -> None:
        self.waits: list[float] = []
        self._netloc = urllib.parse.urlsplit(url).netloc
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_done.set()
        self._thread.join()

    def _run(self) -> None:
        with closing(http.client.HTTPConnection(self._netloc, timeout=60)) as connection:
            while not self._is_done.wait(0.01):
                began = time.perf_counter()
                connection.request("GET", "/-/livez")
                connection.getresponse().read()
                self.waits.append(time.perf_counter() - began)


@dataclass
class Measured:
    """The measurements of one kind of answer."""

    size: int = 0
    first: list[tuple[float, float]] = field(default_factory=list)
    total: list[tuple[float, float]] = field(default_factory=list)
    computed: list[float] = field(default_factory=list)
    grown: list[int] = field(default_factory=list)
    longest_waits: list[float] = field(default_factory=list)


def measure(kind: str, rounds: int, urls: tuple[str, str], server: tuple[int, int], numbers: Iterator[int]) -> Measured:
    """Request an answer directly and through the proxy, in turn; `server` is its process, and its size before."""
    measured = Measured()
    (direct, proxy), (pid, resident) = urls, server
    for _ in range(rounds):
        first, total, size, _ = request(direct, kind, next(numbers))
        time.sleep(0.2)
        computed = processor_time(pid)
        reset_peak(pid)
        with Neighbour(proxy) as neighbour:
            first_through, total_through, size_through, status = completed(proxy, kind, next(numbers))
        assert status.endswith("stored"), status
        assert abs(size_through - size) < size / 4, (size, size_through)
        measured.size = size
        measured.first.append((first, first_through))
        measured.total.append((total, total_through))
        measured.computed.append(processor_time(pid) - computed)
        measured.grown.append(memory(pid, "VmHWM") - resident)
        measured.longest_waits.append(max(neighbour.waits))
    return measured


def median_difference(pairs: list[tuple[float, float]]) -> float:
    """Return the median of the differences of pairs."""
    return statistics.median(through - direct for direct, through in pairs)


def row(kind: str, measured: Measured, quiet: float) -> tuple[str, bool]:
    """Return a row of the table, and whether it is within the limits with their tolerance."""
    added = median_difference(measured.first)
    per_mb = added * 1e3 / (measured.size / 1e6)
    bodies = statistics.median(measured.grown) / measured.size
    computed = statistics.median(measured.computed) * 1e3 / (measured.size / 1e6)
    wait = (statistics.median(measured.longest_waits) - quiet) * 1e3
    is_good = computed <= TOLERANCE * MAX_MS_PER_MB and bodies <= TOLERANCE * MAX_BODIES
    cells = (
        kind,
        f"{measured.size / 1e6:.1f} MB",
        f"{statistics.median(direct for direct, _ in measured.first):.3f} s",
        f"{added:.3f} s",
        f"{per_mb:.1f}",
        f"{computed:.1f}",
        f"{median_difference(measured.total):.3f} s",
        f"{bodies:.1f}",
        f"{wait:.0f} ms",
    )
    return f"| {' | '.join(cells)} |", is_good


def main() -> int:
    """Print the table; return 1 if a limit is exceeded by far."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dispatcher", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--small", action="store_true", help="only answers of 4.4 MB")
    arguments = parser.parse_args()
    if arguments.dispatcher:
        serve_dispatcher()
        return 0
    numbers = iter(range(1, 1_000_000))
    with tempfile.TemporaryDirectory() as place, started(__file__, "--dispatcher", log=Path(place, "log")) as mock:
        _, direct = mock
        serve: tuple[str, ...] = ("-m", "oda_proxy.cli", "serve", "--upstream", direct, "--port", "0")
        serve += ("--cache-dir", f"{place}/cache", "--memory", "0", *NO_QUEUES)
        with started(*serve, log=Path(place, "proxy.log")) as (process, proxy):
            kinds = [(f"{name}-{size}", rounds) for size, rounds in ROUNDS.items() for name in ("spectra", "images")]
            if arguments.small:
                kinds = [(kind, rounds) for kind, rounds in kinds if rounds == ROUNDS[SMALL]]
            completed(proxy, f"images-{FIRST}", next(numbers))  # once, to load what is needed
            with Neighbour(proxy) as neighbour:
                time.sleep(1.0)
            quiet = statistics.median(neighbour.waits)
            server = process.pid, memory(process.pid, "VmRSS")
            rows = [
                row(kind.partition("-")[0], measure(kind, rounds, (direct, proxy), server, numbers), quiet)
                for kind, rounds in kinds
            ]
    print(f"| {' | '.join(COLUMNS)} |")
    print(f"|{' --- |' * len(COLUMNS)}")
    for text, _ in rows:
        print(text)
    print(f"limits: {MAX_MS_PER_MB:.0f} ms for each MB until the first byte, {MAX_BODIES:.0f} bodies of memory")
    return not all(is_good for _, is_good in rows)


if __name__ == "__main__":
    sys.exit(main())
