"""Time of pictures of mosaics of 455 x 455 pixels: the first one, the same one later, and hits while they are drawn.

All are requests to one server with its drawing process, which runs already. Phases with and without drawing alternate;
in the busy ones one client after another requests a picture that was not drawn yet. Hits are those of a small
recording, sent at a constant rate, and measured from the time at which each was due.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from http.client import HTTPConnection
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

RATE = 50.0
"""Hits per second."""
FIRST, LATER, SLOWER = 1.0, 0.02, 1.5
"""Seconds of the first picture, seconds of the same one later, and the ratio of the 99th percentiles of hits."""
FAR_OFF = 10.0
"""How many times each may be larger before this fails: other programs may run on the machine."""
COMMON = {
    "instrument": "isgri", "query_type": "Real", "osa_version": "OSA10.2", "RA": "83.63", "DEC": "22.01",
    "radius": "15.0", "api": "True", "off_line": "False", "oda_api_version": "1.3.5",
}  # fmt: skip


class Client:
    """A client with one connection."""

    def __init__(self, url: str) -> None:
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=60)

    def get(self, path: str) -> bytes:
        """Return the body of a response. Raises OSError unless it has the status 200."""
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:  # noqa: PLR2004 - OK
            raise OSError(body[:300].decode())
        return body

    def run(self, number: int, product: str) -> str:
        """Send a query until its products come, and return the path of a hit."""
        fields = {
            **COMMON, "product_type": product, "T1": f"2008-01-{number + 1:02}T00:00:00",
            "T2": f"2008-01-{number + 1:02}T00:30:00", "time_bin": "900", "session_id": f"{number:016}",
        }  # fmt: skip
        polled = {**fields, "query_status": "new"}
        while (answer := json.loads(self.get(f"/run_analysis?{urlencode(polled)}")))["query_status"] != "done":
            polled |= {"query_status": answer["query_status"], "job_id": answer["job_monitor"]["job_id"]}
        return f"/run_analysis?{urlencode({**fields, 'query_status': 'new'})}"


def timed(client: Client, path: str) -> float:
    """Return the seconds that a response takes."""
    start = time.perf_counter()
    client.get(path)
    return time.perf_counter() - start


def probe(client: Client, path: str, seconds: float, latencies: list[float]) -> None:
    """Send hits at a constant rate, and append the seconds of each after it was due."""
    begin = time.perf_counter()
    for number in range(int(seconds * RATE)):
        due = begin + number / RATE
        time.sleep(max(0.0, due - time.perf_counter()))
        client.get(path)
        latencies.append(time.perf_counter() - due)


def draw(url: str, paths: Sequence[str], stop: threading.Event, drawn: list[float]) -> None:
    """Request pictures, one after the other, and append the seconds of each."""
    client = Client(url)
    for path in paths:
        if stop.is_set():
            return
        drawn.append(timed(client, path))


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile of some values."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def main() -> int:
    """Measure, and print a table; the status is 1 where a figure is far off its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phases", type=int, default=2, help="phases with, and as many without drawing")
    parser.add_argument("--seconds", type=float, default=3.0, help="duration of a phase")
    parser.add_argument("--mosaics", type=int, default=18, help="recordings of mosaics")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "oda_proxy.cli", "serve", "--mock", "--synthetic", "--time-scale", "0"]
        command += ["--port", "0", "--cache-dir", folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
            assert server.stdout is not None
            url = server.stdout.readline().removeprefix("listening on ").strip()
            try:
                return measure(url, options.phases, options.seconds, options.mosaics)
            finally:
                server.terminate()


def measure(url: str, phases: int, seconds: float, mosaics: int) -> int:
    """Measure a server, and print the table."""
    client = Client(url)
    hit = client.run(0, "isgri_lc")
    for number in range(mosaics):
        client.run(number, "isgri_image")
    listed = json.loads(client.get("/-/api/recordings?product=isgri_image"))["recordings"]
    pictures = [f"/-/recordings/{one['key']}/products/0.png" for one in listed]
    client.get(pictures.pop())  # starts the process
    first, later = [], []
    for path in pictures[:5]:
        first.append(timed(client, path))
        later += [timed(client, path) for _ in range(10)]
    quiet: list[float] = []
    busy: list[float] = []
    drawn: list[float] = []
    per_phase = (len(pictures) - 5) // phases
    for phase in range(phases):
        probe(client, hit, seconds, quiet)
        stop = threading.Event()
        chosen = pictures[5 + phase * per_phase :][:per_phase]
        drawing = threading.Thread(target=draw, args=(url, chosen, stop, drawn))
        drawing.start()
        probe(client, hit, seconds, busy)
        stop.set()
        drawing.join()
    with closing(client._connection):  # noqa: SLF001 - of this program
        ratio = percentile(busy, 99) / percentile(quiet, 99)
    first_time, later_time = statistics.median(first), statistics.median(later)
    rows = [
        ("first picture of a mosaic, median", f"{first_time:.3f} s", FIRST, first_time),
        ("the same picture later, median", f"{later_time * 1000:.1f} ms", LATER, later_time),
        (
            f"99th percentile of hits, {len(drawn)} pictures drawn / quiet",
            f"{percentile(busy, 99) * 1000:.1f} / {percentile(quiet, 99) * 1000:.1f} ms = {ratio:.2f}", SLOWER, ratio,
        ),
    ]  # fmt: skip
    for name, shown, target, value in rows:
        verdict = "reached" if value <= target else "missed" if value <= FAR_OFF * target else "FAR OFF"
        print(f"{name:<56} {shown:<28} target {target:g}: {verdict}")
    return int(any(value > FAR_OFF * target for _, _, target, value in rows))


if __name__ == "__main__":
    sys.exit(main())
