"""Time from the start of the proxy to its first response, with 100,000 recordings and with none.

The index is filled with rows as the store writes them; all share one head, because heads are not read at the start.
Both starts are timed in turn, and the ratio is computed pair by pair, because the speed of the machine varies.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from oda_proxy.config.folders import cache_folder
from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Query
from oda_proxy.recordings.head import MemoryHead
from oda_proxy.recordings.recording import Recording
from oda_proxy.store import rows
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.index import Index

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDINGS = 100_000
PAIRS = 7
LIMIT = 2.0


class Dispatcher(BaseHTTPRequestHandler):
    """A dispatcher that only responds."""

    def do_GET(self) -> None:
        """Respond with an empty list."""
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def dispatcher() -> Iterator[str]:
    """Run a dispatcher until the block ends; yield its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Dispatcher) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def recording(number: int) -> Recording:
    """Return a recording of a small light curve, with a row of typical size."""
    words = (("RA", (f"{number / 1000}",)), ("T1", ("2003-03-15T23:27:40.0",)), ("T2", ("2003-03-16T00:03:15.0",)))
    return Recording(
        key=Key(f"{number:064x}"),
        stored_at=float(number),
        head=MemoryHead(b'"numpy_data_product_list":[]'),
        exit_status={"status": 0, "message": ""},
        parameters={"analysis_parameters": {name: values[0] for name, values in words}},
        echoed=("session_id", "query_status", "token", "oda_api_version"),
        query=Query("isgri", "isgri_lc", "Real", words, api=True),
        cost=60.0,
    )


def fill(cache: Path, upstream: str) -> None:
    """Store the first recording, and write the rows of all others in one transaction."""
    with closing(DiskStore(cache_folder(cache, upstream))) as store:
        store.put(recording(0))
        index = store._folder.index()  # noqa: SLF001 - storing one by one would flush each to the disk
        assert isinstance(index, Index)
        head = rows.loads(recording(0).key, index.get(recording(0).key)).head
        with index.transact():
            for number in range(1, RECORDINGS):
                index.set(recording(number).key, rows.dumps(recording(number), head))
            index.set(f"head:{head.name}", str(RECORDINGS))
            index.set("filling", f"{RECORDINGS} {head.stored_size}")
        assert store.usage().recordings == RECORDINGS
        assert sum(one.recordings for one in store.totals()) == RECORDINGS, "secondary indexes are made here"


def starting(cache: Path, log: Path, upstream: str) -> float:
    """Return the time in s from the start of a proxy to its first response."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "oda_proxy.cli", "serve", "--upstream", upstream]
    command += ["--port", "0", "--cache-dir", str(cache)]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("listening on ").strip()
        with urllib.request.urlopen(f"{url}/-/readyz") as response:  # noqa: S310 - on this machine
            response.read()
        took = time.perf_counter() - began
        process.terminate()
    return took


def main() -> int:
    """Print the medians; return 1 if the limit is exceeded."""
    with tempfile.TemporaryDirectory() as place, dispatcher() as upstream:
        empty, full, log = Path(place) / "empty", Path(place) / "full", Path(place) / "log"
        fill(full, upstream)
        starting(empty, log, upstream), starting(full, log, upstream)  # once, to fill the file cache
        pairs = [(starting(empty, log, upstream), starting(full, log, upstream)) for _ in range(PAIRS)]
    ratio = statistics.median(with_all / with_none for with_none, with_all in pairs)
    with_none, with_all = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"first response with no recording {with_none:.3f} s, with {RECORDINGS} {with_all:.3f} s, "
        f"ratio {ratio:.2f} (limit {LIMIT})"
    )
    return ratio > LIMIT


if __name__ == "__main__":
    sys.exit(main())
