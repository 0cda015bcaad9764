"""Bytes and time of hits over a link of 50 Mbit/s, compressed and not.

A proxy over the mock compresses for all clients; a relay in front of it lets no more bytes/s through than such a link.
Each product is requested in turn without a coding, with gzip and with zstd, and decoded, by one client.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import time
import zlib
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import zstandard

sys.path.insert(0, str(Path(__file__).parent.parent))  # for tests.support

from mock_server.settings import fixtures_folder
from tests.support.relay import relaying
from tests.support.servers import running

if TYPE_CHECKING:
    from collections.abc import Sequence

PRODUCTS = (
    "isgri/isgri_image/4u1700-377",
    "isgri/isgri_spectrum/4u1700-377",
    "jemx/jemx_image/010200230010",
    "jemx/jemx_spectrum/010200230010",
)
OF_NOTEBOOK = PRODUCTS[:3]
"""Products whose limits count: the image and the spectra of the notebook that take long to transfer."""
RATE = 50e6 / 8
"""Bytes/s of the link."""
CODINGS = ("identity", "gzip", "zstd")
SIZE_LIMIT, TIME_LIMIT = 0.5, 0.55
"""Bytes and time with gzip, as fractions of those without."""
FAR_OFF = 1.5
"""Multiple of a limit above which the benchmark fails: the machine may be busy."""
PATIENCE = 60.0


def fields(product: str) -> dict[str, str]:
    """Return the fields of a request for a fixture."""
    query: dict[str, Any] = json.loads((fixtures_folder() / product / "query.json").read_text())
    parameters = {
        name: ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in query["parameters"].items()
    }
    return {
        "instrument": query["instrument"],
        "product_type": query["product_type"],
        "query_type": query["query_type"],
        **parameters,
        "api": "True",
        "query_status": "new",
        "session_id": "BENCHMARK",
        "oda_api_version": "1.3.5",
    }


def request(url: str, product: str, coding: str) -> tuple[str, bytes]:
    """Request a product; return the coding of the answer, and its body as sent."""
    with closing(http.client.HTTPConnection(urlsplit(url).netloc)) as connection:
        connection.request("GET", f"/run_analysis?{urlencode(fields(product))}", headers={"Accept-Encoding": coding})
        response = connection.getresponse()
        return response.headers.get("Content-Encoding", "identity"), response.read()


def decoded(coding: str, body: bytes) -> bytes:
    """Return a body without its coding."""
    if coding == "gzip":
        return zlib.decompress(body, zlib.MAX_WBITS + 16)
    if coding == "zstd":
        return zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True).read()
    return body


def prepare(url: str, product: str) -> None:
    """Have a product recorded and compressed."""
    for coding in CODINGS:
        deadline = time.monotonic() + PATIENCE
        while True:
            found, body = request(url, product, coding)
            if found == coding and json.loads(decoded(found, body))["query_status"] == "done":
                break
            assert time.monotonic() < deadline, (product, coding, body[:200])


def measure(url: str, product: str, rounds: int) -> dict[str, tuple[int, float]]:
    """Return the bytes, and the median time in s, of hits in each coding."""
    sizes: dict[str, int] = {}
    times: dict[str, list[float]] = {coding: [] for coding in CODINGS}
    with relaying(url, RATE) as link:
        for _ in range(rounds):
            for coding in CODINGS:
                began = time.perf_counter()
                found, body = request(link.url, product, coding)
                text = decoded(found, body)
                times[coding].append(time.perf_counter() - began)
                assert found == coding
                assert text.startswith(b'{"query_status":"done"')
                sizes[coding] = len(body)
    return {coding: (sizes[coding], statistics.median(times[coding])) for coding in CODINGS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if a ratio is far off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args(arguments).rounds
    is_far_off = False
    print("| product | bytes | gzip | zstd | time at 50 Mbit/s | gzip | zstd |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        serve = ("serve", "--mock", "--time-scale", "0.01", "--port", "0", "--compress", "always")
        with running(Path(place) / "log", *serve) as server:
            for product in PRODUCTS:
                prepare(server.url, product)
                found = measure(server.url, product, rounds)
                size, took = found["identity"]
                sizes, times = ({coding: found[coding][n] / found["identity"][n] for coding in CODINGS} for n in (0, 1))
                name = product.split("/")[1]
                print(
                    f"| {name} | {size:,} | {sizes['gzip']:.2f} | {sizes['zstd']:.2f} "
                    f"| {took * 1000:.0f} ms | {times['gzip']:.2f} | {times['zstd']:.2f} |"
                )
                is_over = sizes["gzip"] > SIZE_LIMIT * FAR_OFF or times["gzip"] > TIME_LIMIT * FAR_OFF
                is_far_off = is_far_off or (product in OF_NOTEBOOK and is_over)
    print(f"expected with gzip: at most {SIZE_LIMIT} of the bytes, and {TIME_LIMIT} of the time")
    return is_far_off


if __name__ == "__main__":
    sys.exit(main())
