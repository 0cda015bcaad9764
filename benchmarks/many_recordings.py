"""Hits, commands, eviction and searches with many recordings, beside the same with 1,000.

Rows and heads are written in bulk, as the store writes them, each with a small head of its own. Both stores are used in
turn; ratios are medians of those of each pair.
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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import zstandard

from oda_proxy.config.folders import cache_folder
from oda_proxy.query.cache_key import Key, key_of
from oda_proxy.query.query import parse_fields, split_query
from oda_proxy.recordings.head import MemoryHead
from oda_proxy.recordings.recording import Recording
from oda_proxy.store import counters, rows
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.index import Index
from oda_proxy.store.rows import HeadFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

UPSTREAM = "http://dispatcher.example"
HEAD = b'"numpy_data_product_list":[],"number":%d'
ROUNDS, HITS_PER_ROUND = 40, 20
FIRST_TIME, SECOND_DAY = 1.7e9, "2023-11-15"
"""When the first recording was stored, in s since 1970, and the first day on which others were."""
REQUESTED = 200
"""Recordings that are requested, of few as of many: those that stay in memory are the same number."""
HIT_RATE = 0.9
"""Hit rate with many recordings, as a fraction of that with few, that is expected."""
FAR_OFF = 0.6
"""Hit rate below which the benchmark fails: the machine may be busy."""
LONGEST_RATIO = 3.0
"""Duration of a command with many recordings, as a multiple of that with few, above which the benchmark fails."""


def fields(number: int) -> dict[str, str]:
    """Return the fields of the query of a recording."""
    return {
        "instrument": "isgri",
        "product_type": "isgri_lc",
        "query_type": "Real",
        "RA": f"{number / 1000}",
        "T1": "2003-03-15T23:27:40.0",
        "T2": "2003-03-16T00:03:15.0",
        "api": "True",
        "query_status": "new",
        "session_id": "BENCHMARK",
    }


def recording(number: int) -> Recording:
    """Return a recording with a row of typical size."""
    query, _ = split_query(parse_fields(urlencode(fields(number))))
    return Recording(
        key=key_of(query),
        stored_at=FIRST_TIME + number,
        head=MemoryHead(HEAD % number),
        exit_status={"status": 0, "message": ""},
        parameters={"analysis_parameters": {name: values[0] for name, values in query.parameters}},
        echoed=("session_id", "query_status", "token", "oda_api_version"),
        query=query,
        cost=60.0,
    )


@dataclass(frozen=True)
class Filled:
    """A store with recordings."""

    cache: Path
    keys: list[Key]

    @property
    def folder(self) -> Path:
        """The folder of the store."""
        return cache_folder(self.cache, UPSTREAM)


def fill(cache: Path, number: int) -> Filled:
    """Store recordings: their heads as files, and their rows in one transaction."""
    compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
    with closing(DiskStore(cache_folder(cache, UPSTREAM))) as store:
        index = store._folder.index()  # noqa: SLF001 - storing one by one would flush each to the disk
        assert isinstance(index, Index)
        keys = []
        with index.writing():
            for count in range(number):
                one = recording(count)
                text = HEAD % count
                content = compressor.compress(text)
                name = hashlib.sha256(content).hexdigest()
                path = cache_folder(cache, UPSTREAM) / "heads" / name[:2] / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
                head = HeadFile(hashlib.sha256(text).hexdigest(), len(text), name, len(content))
                index.set(one.key, rows.dumps(one, head))
                index.set(f"head:{name}", "1")
                keys.append(one.key)
            occupied = sum(file.stat().st_size for file in (cache_folder(cache, UPSTREAM) / "heads").glob("*/*"))
            index.set("filling", f"{number} {occupied}")
        assert sum(one.recordings for one in store.totals()) == number, "secondary indexes are made here"
        assert counters.usage(index).recordings == number
    return Filled(cache, keys)


def hits_of_store(store: DiskStore, keys: Sequence[Key]) -> float:
    """Return the time in s of look-ups."""
    began = time.perf_counter()
    for key in keys:
        found = store.get(key)
        assert found is not None
        found.head.close()
    return time.perf_counter() - began


class Server:
    """A proxy without a dispatcher in a process of its own."""

    def __init__(self, filled: Filled, log: Path) -> None:
        command = [sys.executable, "-m", "oda_proxy.cli", "serve", "--offline", "--upstream", UPSTREAM]
        command += ["--port", "0", "--cache-dir", str(filled.cache)]
        self._first_unknown = len(filled.keys)
        with log.open("w") as errors:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert self._process.stdout is not None
        url = urlsplit(self._process.stdout.readline().removeprefix("listening on ").strip())
        self._address = url.hostname or "", url.port
        self._connection = http.client.HTTPConnection(*self._address)

    def stop(self) -> None:
        """Stop the process."""
        self._connection.close()
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def hits(self, choose: random.Random, number: int) -> list[float]:
        """Return the times in s of hits, one after the other."""
        return [self.request(self._connection, choose.randrange(REQUESTED)) for _ in range(number)]

    def request(self, connection: http.client.HTTPConnection, number: int) -> float:
        """Request a recording; return the time in s."""
        began = time.perf_counter()
        connection.request("GET", f"/run_analysis?{urlencode(fields(number))}")
        response = connection.getresponse()
        content = response.read()
        took = time.perf_counter() - began
        assert b'"exit_status"' in content or b"exit_status" in content, content[:200]
        return took

    def hits_beside_misses(self, choose: random.Random, number: int) -> list[float]:
        """Return the times in s of hits while the nearest recordings of other queries are searched."""
        done = threading.Event()

        def miss() -> None:
            with closing(http.client.HTTPConnection(*self._address)) as connection:
                while not done.is_set():
                    self.request(connection, self._first_unknown + choose.randrange(1000))

        thread = threading.Thread(target=miss)
        thread.start()
        try:
            return self.hits(choose, number)
        finally:
            done.set()
            thread.join()


@contextmanager
def serving(filled: Filled, log: Path) -> Iterator[Server]:
    """Run a proxy until the block ends."""
    server = Server(filled, log)
    try:
        yield server
    finally:
        server.stop()


def command(filled: Filled, *arguments: str) -> float:
    """Return the time in s until the first line of a command's output."""
    began = time.perf_counter()
    line = [sys.executable, "-m", "oda_proxy.cli", *arguments, "--upstream", UPSTREAM, "--cache-dir", str(filled.cache)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        took = time.perf_counter() - began
        assert first, arguments
        process.terminate()
    return took


def evictions(filled: Filled, number: int) -> float:
    """Return the time in s to evict recordings."""
    with closing(DiskStore(filled.folder, track_use=False)) as store:
        began = time.perf_counter()
        groups = store.groups_to_evict()
        entries = [entry for _ in range(number) for entry in next(groups)]
        assert len(store.evict_all(entries)) == number
        took = time.perf_counter() - began
        filled.keys[:] = list(store.keys())
    return took


def in_turn(repetitions: int, few: Callable[[], float], many: Callable[[], float]) -> tuple[float, float, float]:
    """Return the medians of two durations in s that are measured in turn, and of their ratios."""
    few(), many()
    pairs = [(few(), many()) for _ in range(repetitions)]
    one, other = zip(*pairs, strict=True)
    ratio = statistics.median(many_took / few_took for few_took, many_took in pairs)
    return statistics.median(one), statistics.median(other), ratio


def measure(few: Filled, many: Filled, place: Path) -> list[tuple[str, float, float, float]]:
    """Return names, the median times in s with few and with many recordings, and the median ratio."""
    choose = random.Random(1)  # noqa: S311 - a sample
    found = []
    with closing(DiskStore(few.folder)) as small, closing(DiskStore(many.folder)) as large:
        times = in_turn(
            ROUNDS,
            lambda: hits_of_store(small, choose.choices(few.keys[:REQUESTED], k=HITS_PER_ROUND)) / HITS_PER_ROUND,
            lambda: hits_of_store(large, choose.choices(many.keys[:REQUESTED], k=HITS_PER_ROUND)) / HITS_PER_ROUND,
        )
        found.append(("look-up in the store", *times))
    with serving(few, place / "few.log") as small_server, serving(many, place / "many.log") as large_server:

        def hits(server: Server) -> float:
            return statistics.median(server.hits(choose, HITS_PER_ROUND))

        def hits_beside_misses(server: Server) -> float:
            return statistics.median(server.hits_beside_misses(choose, HITS_PER_ROUND))

        for name, times_of, repetitions in (
            ("hit, just after the start", hits, ROUNDS),
            ("hit", hits, ROUNDS),
            ("hit, beside a search for the nearest", hits_beside_misses, ROUNDS // 2),
        ):
            few_times, many_times = partial(times_of, small_server), partial(times_of, large_server)
            found.append((name, *in_turn(repetitions, few_times, many_times)))
    for name, *arguments in (
        ("`ls`, first line", "ls"),
        ("`ls --json`, first line", "ls", "--json"),
        ("`ls --stored-before DATE`, first line", "ls", "--stored-before", SECOND_DAY),
        ("`stats`", "stats"),
        ("`rm KEY --dry-run`", "rm", "--dry-run", few.keys[0]),
    ):
        found.append((name, *in_turn(5, partial(command, few, *arguments), partial(command, many, *arguments))))
    found.append(("eviction of 20", *in_turn(3, lambda: evictions(few, 20), lambda: evictions(many, 20))))
    return found


def main() -> int:
    """Print the table; return 1 if a ratio is far off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--many", type=int, default=10_000, help="100000 takes a few minutes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        few, many = fill(Path(place, "few"), options.few), fill(Path(place, "many"), options.many)
        found = measure(few, many, Path(place))
    print(f"| | {options.few} recordings | {options.many} | ratio |")
    print("|---|---|---|---|")
    for name, small, large, ratio in found:
        print(f"| {name} | {small * 1000:.3g} ms | {large * 1000:.3g} ms | {ratio:.2f} |")
    rates = {name: 1 / ratio for name, _, _, ratio in found if "hit" in name or "look-up" in name}
    lowest = min(rates.values())
    print(f"hit rate with {options.many} recordings: at least {lowest:.2f} of that with few (expected {HIT_RATE})")
    limits = {name: 1 / FAR_OFF if name in rates else LONGEST_RATIO for name, *_ in found}
    slow = [name for name, _, _, ratio in found if ratio > limits[name]]
    if slow:
        print(f"far off: {', '.join(slow)}")
    return bool(slow)


if __name__ == "__main__":
    sys.exit(main())
