"""The pages with many recordings, beside the same with 1,000; and hits while pages are made.

Rows are written in bulk, with varied sources, positions and times; only recordings that are requested have heads. Both
stores are used in turn; ratios are medians of those of each pair. The first page, with all that it imports and
compiles, is measured once for each server.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import zstandard

from oda_proxy.config.folders import cache_folder
from oda_proxy.query.cache_key import Key, key_of
from oda_proxy.query.query import parse_fields, split_query
from oda_proxy.recordings.head import MemoryHead
from oda_proxy.recordings.recording import Recording
from oda_proxy.store import rows
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.index import Index
from oda_proxy.store.rows import HeadFile

if TYPE_CHECKING:
    from collections.abc import Iterator

UPSTREAM = "http://dispatcher.example"
HEAD = b'"numpy_data_product_list":[],"number":%d'
REQUESTED = 100
"""Recordings that are requested, and have heads."""
PRODUCTS = [("isgri", "isgri_image"), ("isgri", "isgri_lc"), ("jemx", "jemx_lc"), ("jemx", "jemx_spectrum")]
SOURCES = ["Crab", "Cyg X-1", "GRS 1915+105", "Sco X-1", "Vela X-1"]
PAGES = {
    "overview": "/-/",
    "overview, by size": "/-/?sort=size",
    "overview, the last page": "/-/?page={last}",
    "search for a word": "/-/?q=crab",
    "search at a position": "/-/?position=83.6+22.0&radius=5",
    "search in a time range": "/-/?from=2005-01-01&to=2005-02-01",
    "a recording": "/-/recordings/{key}",
}
ROUNDS, HITS_PER_ROUND = 9, 60
FIRST_PAGE = 0.2
"""Seconds for the first page that are expected on a quiet machine."""
SLOWDOWN = 1.5
"""Duration of a hit while pages are made, as a multiple of that without, that is expected."""
FAR_OFF = 3.0
"""Multiple of what is expected from which the benchmark fails: the machine may be busy."""


def fields(number: int) -> dict[str, str]:
    """Return the fields of the query of a recording."""
    instrument, product = PRODUCTS[number % len(PRODUCTS)]
    year, month, day = 2003 + number % 15, 1 + number % 12, 1 + number % 28
    return {
        "instrument": instrument,
        "product_type": product,
        "query_type": "Real",
        "src_name": SOURCES[number % len(SOURCES)],
        "RA": f"{number * 0.0137 % 360:.4f}",
        "DEC": f"{number * 0.0071 % 180 - 90:.4f}",
        "T1": f"{year}-{month:02}-{day:02}T00:00:00",
        "T2": f"{year}-{month:02}-{day:02}T12:00:00",
        "api": "True",
        "query_status": "new",
        "session_id": "BENCHMARK",
    }


def fill(cache: Path, number: int) -> tuple[Path, str]:
    """Store recordings in a cache folder; return it, and the key of one of them."""
    compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
    folder = cache_folder(cache, UPSTREAM)
    with closing(DiskStore(folder)) as store:
        index = store._folder.index()  # noqa: SLF001 - storing one by one would flush each to the disk
        assert isinstance(index, Index)
        with index.writing():
            for count in range(number):
                query, _ = split_query(parse_fields(urlencode(fields(count))))
                has_head = count < REQUESTED
                text = HEAD % count
                content = compressor.compress(text)
                name = hashlib.sha256(content).hexdigest()
                if has_head:
                    path = folder / "heads" / name[:2] / name
                    path.parent.mkdir(exist_ok=True)
                    path.write_bytes(content)
                key = key_of(query) if has_head else Key(hashlib.sha256(str(count).encode()).hexdigest())
                recording = Recording(
                    key=key,
                    stored_at=1.7e9 + count,
                    head=MemoryHead(text),
                    exit_status={"status": 0, "message": ""},
                    parameters={"analysis_parameters": {name: values[0] for name, values in query.parameters}},
                    echoed=("session_id", "query_status", "token", "oda_api_version"),
                    query=query,
                    cost=60.0 + count % 5000,
                    timeline=(("submitted", 0.0), ("progress", 5.0), ("ready", 55.0)),
                )
                size = len(text) * (1 if has_head else 1 + count % 999)
                head = HeadFile(hashlib.sha256(text).hexdigest(), size, name, len(content))
                index.set(recording.key, rows.dumps(recording, head))
            index.set("filling", f"{number} {number * 50}")
        assert sum(one.recordings for one in store.totals()) == number, "secondary indexes are made here"
    query, _ = split_query(parse_fields(urlencode(fields(1))))
    return cache, key_of(query)


class Server:
    """A proxy without a dispatcher in a process of its own."""

    def __init__(self, cache: Path, key: str, number: int, log: Path) -> None:
        command = [sys.executable, "-m", "oda_proxy.cli", "serve", "--offline", "--upstream", UPSTREAM]
        command += ["--port", "0", "--cache-dir", str(cache)]
        with log.open("w") as errors:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert self._process.stdout is not None
        url = urlsplit(self._process.stdout.readline().removeprefix("listening on ").strip())
        self._address = url.hostname or "", url.port
        self._connection = http.client.HTTPConnection(*self._address)
        self._names = {"key": key, "last": str(max(number // 50, 1))}

    def stop(self) -> None:
        """Stop the process."""
        self._connection.close()
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def page(self, path: str, connection: http.client.HTTPConnection | None = None) -> float:
        """Request a page; return the time in s."""
        connection = connection or self._connection
        began = time.perf_counter()
        connection.request("GET", path.format(**self._names), headers={"Accept": "text/html"})
        response = connection.getresponse()
        content = response.read()
        took = time.perf_counter() - began
        assert response.status == 200, (path, response.status, content[:300])  # noqa: PLR2004 - OK
        return took

    def hits(self, choose: random.Random) -> float:
        """Return the median time in s of hits, one after the other."""
        times = []
        for _ in range(HITS_PER_ROUND):
            began = time.perf_counter()
            self._connection.request("GET", f"/run_analysis?{urlencode(fields(choose.randrange(REQUESTED)))}")
            response = self._connection.getresponse()
            content = response.read()
            times.append(time.perf_counter() - began)
            assert response.status == 200, content[:300]  # noqa: PLR2004 - OK
        return statistics.median(times)

    def hits_beside_pages(self, choose: random.Random) -> float:
        """Return the median time in s of hits while one visitor requests one page after the other."""
        done = threading.Event()

        def visit() -> None:
            with closing(http.client.HTTPConnection(*self._address)) as connection:
                while not done.is_set():
                    for path in PAGES.values():
                        self.page(path, connection)

        thread = threading.Thread(target=visit)
        thread.start()
        try:
            return self.hits(choose)
        finally:
            done.set()
            thread.join()


@contextmanager
def serving(place: Path, number: int) -> Iterator[Server]:
    """Run a proxy with a number of recordings until the block ends."""
    cache, key = fill(place / str(number), number)
    server = Server(cache, key, number, place / f"{number}.log")
    try:
        yield server
    finally:
        server.stop()


def main() -> int:
    """Print the tables; return 1 if a figure is far off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--many", type=int, default=10_000, help="100000 takes a minute more")
    options = parser.parse_args()
    choose = random.Random(1)  # noqa: S311 - a sample
    with (
        tempfile.TemporaryDirectory() as name,
        serving(Path(name), options.few) as few,
        serving(Path(name), options.many) as many,
    ):
        rows_of_table = [("overview, the first time", few.page("/-/"), first := many.page("/-/"))]
        for title, path in PAGES.items():
            few.page(path), many.page(path)
            pairs = [(few.page(path), many.page(path)) for _ in range(ROUNDS)]
            rows_of_table.append((title, *(statistics.median(one) for one in zip(*pairs, strict=True))))
        many.hits(choose)
        pairs = [(many.hits(choose), many.hits_beside_pages(choose)) for _ in range(ROUNDS)]
        slowdown = statistics.median(beside / alone for alone, beside in pairs)
        alone, beside = (statistics.median(one) for one in zip(*pairs, strict=True))
    print(f"| page | {options.few} recordings | {options.many} | ratio |")
    print("|---|---|---|---|")
    for title, small, large in rows_of_table:
        print(f"| {title} | {small * 1000:.3g} ms | {large * 1000:.3g} ms | {large / small:.1f} |")
    print(f"first page with {options.many} recordings: {first:.2f} s (expected {FIRST_PAGE} s)")
    print(
        f"a hit takes {alone * 1000:.2f} ms, while pages are made {beside * 1000:.2f} ms: {slowdown:.2f} times", end=" "
    )
    print(f"(expected {SLOWDOWN})")
    return first > FAR_OFF * FIRST_PAGE or slowdown > FAR_OFF * SLOWDOWN


if __name__ == "__main__":
    sys.exit(main())
