"""Several servers over one Redis: hits, misses and jobs a second of three against one, and what each asks of Redis.

Servers share a Redis and a folder; others have a bucket in place of the folder, or a store on disk. `wrk` sends hits
from the same CPUs, over as many connections to three servers as to one, in turn. CPU times of the servers, of Redis and
of `wrk` tell what the CPUs allow at most, and so whether the servers or the machine limit the ratio.

    python benchmarks/replicas.py           in some 20 s; fails where a target is far off
    python benchmarks/replicas.py --full    more sizes and rounds, in minutes; prints the tables of docs/scale.md
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import redis

from benchmarks import hits, misses
from oda_proxy.config.folders import cache_folder
from oda_proxy.store.redis.address import StoreAddress
from oda_proxy.store.redis.opening import open_store
from tests.support import object_server, redis_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

MB = hits.MB
SERVERS = 3
CONNECTIONS = 96
"""Connections of `wrk`, a multiple of its threads, of which it has one for each server."""
FEW, LARGE = 12, 10 * MB
"""Connections for bodies above so many bytes."""
CLIENTS = 12
"""Clients that submit jobs."""
POLL = 0.02
"""Seconds between two polls of a job."""
MANY = 300
"""Small recordings, by which the memory of Redis and hits that are not in memory are measured."""
ANSWER = misses.FIRST
TINY = "tiny"
ONE, THREE, WORKERS = "one server", "three servers", "three workers"
DISK, FOLDER, BUCKET = "disk", "Redis and folder", "Redis and bucket"


@dataclass(frozen=True)
class Kind:
    """Hits that are measured: of a recording, and whether each request has other bytes than those before."""

    name: str
    number: int
    size: int
    is_varied: bool = False


SIZES = (2_000, MB, 25 * MB)
SHORT = (Kind("2 kB, repeated", 0, SIZES[0]), Kind("2 kB, each request another", 0, SIZES[0], is_varied=True))
FULL = (*SHORT, Kind("1 MB", 1, SIZES[1]), Kind("25 MB", 2, SIZES[2]))

RATIO = 1.6
"""What three servers should reach against one, where two CPUs have also the clients and Redis."""
HOT_REQUESTS = 1.0
"""Requests of Redis for a thousand hits from memory, as far as they can be told from those without hits."""
COLD_REQUESTS = 2.0
"""Requests of Redis for a hit that is not in memory."""
MISS_RATIO = 1.5
"""Time of a miss that is stored in Redis and a folder, against one that is stored on disk."""
FAR_OFF = 0.4
"""Fraction of a target beyond which the benchmark fails: machines differ, and are loaded."""


@dataclass(frozen=True)
class Load:
    """Responses a second, and the CPU time in s of each at the servers, the client and Redis."""

    rate: float
    servers: float
    client: float
    redis: float


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    pid: int


# -- servers ---------------------------------------------------------------------------------------


class Machine:
    """A dispatcher, a Redis, a bucket where its server is installed, and the servers that are measured."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.folder = folder
        self._stack = stack
        stack.enter_context(hits.program(sys.executable, __file__, "--dispatcher", log=folder / "dispatcher"))
        self.upstream = hits.started(folder / "dispatcher")
        self.redis = redis_server.RedisServer(folder / "redis", fsync="everysec")
        self.redis.start()
        stack.callback(self.redis.stop)
        self.client: redis.Redis = redis.Redis(port=self.redis.port)
        stack.callback(self.client.close)
        self.store_url = f"{self.redis.url}?bodies=file://{folder}/heads"

    def serve(self, name: str, *options: str) -> Server:
        """Start a server, and wait until it listens."""
        log = self.folder / f"{name}.log"
        command = [sys.executable, "-m", "oda_proxy.cli", "serve", "--port", "0", "--upstream", self.upstream]
        command += ["--cache-dir", str(self.folder / name), *misses.NO_QUEUES, "--max-jobs", "1000", *options]
        process = self._stack.enter_context(hits.program(*command, log=log))
        return Server(hits.started(log), process.pid)

    def bucket_url(self) -> str | None:
        """Start a server for a bucket, and return the URL of a store with it; None where it is not installed."""
        if not object_server.is_installed():
            return None
        bucket = object_server.ObjectServer(self.folder / "objects")
        os.environ.update(bucket.environment)
        bucket.start()
        self._stack.callback(bucket.kill)
        return f"{self.redis.url.removesuffix('0')}1?{bucket.parameters}"

    def redis_pid(self) -> int:
        """Return the process id of Redis."""
        return int(self.client.info("server")["process_id"])

    def memory(self) -> int:
        """Return the bytes that Redis uses."""
        return int(self.client.info("memory")["used_memory"])

    def requests(self) -> int:
        """Return how often Redis has read a request, with all others that came with it, from any client."""
        return int(self.client.info("stats")["total_reads_processed"])


def serve_dispatcher() -> None:
    """Serve an image and a tiny answer, both ready, until the process is ended."""
    image = misses.products_of(misses.images(), ANSWER)
    misses.Handler.dispatcher = misses.Dispatcher({f"images-{ANSWER}": image, TINY: '{"name":"tiny"}'})
    with ThreadingHTTPServer(("127.0.0.1", 0), misses.Handler) as server:
        print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


# -- load ------------------------------------------------------------------------------------------

LUA = """\
local ports, is_varied = {%s}, %s
local threads, parts, sent = 0, {}, 0
function setup(thread)
  thread.addr = wrk.lookup("127.0.0.1", ports[threads %% #ports + 1])[1]
  thread:set("number", threads)
  threads = threads + 1
end
function init()
  local text = wrk.format("GET", wrk.path .. "@")
  parts[1], parts[2] = text:match("^(.-)@(.*)\\r\\n$")
  parts[1] = parts[1] .. number .. "-"
end
function request()
  sent = sent + 1
  if is_varied then
    return parts[1] .. sent .. parts[2] .. "X-Number: " .. number .. "-" .. sent .. "\\r\\n\\r\\n"
  end
  return parts[1] .. sent .. parts[2] .. "\\r\\n"
end
function done(summary)
  local bad = summary.errors
  print("measured", summary.duration, summary.bytes, bad.connect + bad.read + bad.write + bad.status + bad.timeout)
end
"""


def load(machine: Machine, servers: Sequence[Server], kind: Kind, seconds: int) -> Load:
    """Send hits to servers for some s; raises RuntimeError where a response is no success."""
    script, pids = machine.folder / "load.lua", [server.pid for server in servers]
    ports = ",".join(f'"{urlsplit(server.url).port}"' for server in servers)
    script.write_text(LUA % (ports, json.dumps(kind.is_varied)))
    connections = FEW if kind.size > LARGE else CONNECTIONS
    # More threads than servers take their CPU from one server, which made three look better than they are.
    command = [hits.tool("wrk"), f"-t{len(servers)}", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s"]
    command += ["-s", str(script), f"{servers[0].url}{hits.path(kind.number)}"]
    before, store_before, client_before = sum(map(hits.cpu_time, pids)), hits.cpu_time(machine.redis_pid()), _client()
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    store, client = hits.cpu_time(machine.redis_pid()) - store_before, _client() - client_before
    used = sum(map(hits.cpu_time, pids)) - before
    (line,) = [line for line in output.splitlines() if line.startswith("measured")]
    duration, received, errors = map(int, line.split()[1:])
    responses = received / hits.first_byte(servers[0].url, kind.number)[2]  # a large one may not end in time
    if errors or not responses:
        raise RuntimeError(f"{kind.name}: {errors} responses failed\n{output}")
    return Load(responses / duration * 1e6, used / responses, client / responses, store / responses)


def _client() -> float:
    """Return the CPU time in s of programs that this one has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


async def jobs(servers: Sequence[Server], numbers: Iterator[int], seconds: float) -> int:
    """Submit new queries to servers from several clients for some s; return how many have ended with products."""
    end, done = time.perf_counter() + seconds, 0

    async def client(session: aiohttp.ClientSession, url: str) -> None:
        nonlocal done
        while time.perf_counter() < end:
            number = next(numbers)
            words = {**hits.fields(number), "kind": TINY, "session_id": f"JOB{number:013d}"}
            while True:
                async with session.get(f"{url}/run_analysis", params=words) as response:
                    response.raise_for_status()
                    answer = await response.json()
                if answer["query_status"] == "done":
                    break
                await asyncio.sleep(POLL)
            done += 1

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(client(session, servers[one % len(servers)].url) for one in range(CLIENTS)))
    return done


# -- measurements ----------------------------------------------------------------------------------


def rates(
    machine: Machine, sides: Mapping[str, Sequence[Server]], kinds: Sequence[Kind], rounds: int, seconds: int
) -> dict[Kind, dict[str, list[Load]]]:
    """Return what each side reaches with each kind of hit, round by round."""
    measured: dict[Kind, dict[str, list[Load]]] = {kind: {side: [] for side in sides} for kind in kinds}
    for kind, of in measured.items():
        for servers in sides.values():
            for server in servers:
                for _ in range(4):  # until it is in the memory of each worker, and its responses are repeated
                    hits.first_byte(server.url, kind.number)
        for _ in range(rounds):
            for side, servers in sides.items():
                of[side].append(load(machine, servers, kind, seconds))
    return measured


def ratio(of: Mapping[str, Sequence[Load]], side: str, reference: str) -> float:
    """Return the median of the ratios of two sides."""
    return statistics.median(one.rate / other.rate for one, other in zip(of[side], of[reference], strict=True))


@dataclass(frozen=True)
class CpuTimes:
    """Medians of the CPU times in s of a hit."""

    servers: float
    client: float
    redis: float

    @classmethod
    def of(cls, loads: Sequence[Load]) -> CpuTimes:
        """Return those of several rounds."""
        times = zip(*((one.servers, one.client, one.redis) for one in loads), strict=True)
        return cls(*map(statistics.median, times))

    def most(self, servers: int) -> float:
        """Return the hits a second for which the CPUs of this machine suffice; a server uses one of them."""
        cpus = os.cpu_count() or 1
        return min(servers / self.servers, cpus / (self.servers + self.client + self.redis))


def ratios_by_cpu_time(of: Mapping[str, Sequence[Load]]) -> tuple[float, float]:
    """Return the ratios of three servers to one that CPU times allow: here, and where servers have two CPUs alone."""
    one, three = CpuTimes.of(of[ONE]), CpuTimes.of(of[THREE])
    return three.most(SERVERS) / one.most(1), 2 * one.servers / three.servers


def rate_tables(measured: Mapping[Kind, Mapping[str, Sequence[Load]]]) -> list[str]:
    """Return the lines of two tables: hits and MB a second, with ratios; and CPU times, with what they allow."""
    sides = list(next(iter(measured.values())))
    compared = [side for side in sides if side != ONE]
    heads = [*(f"{side}, hits/s (MB/s)" for side in sides), *(f"{side} / {ONE}" for side in compared)]
    lines = ["| hits | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for kind, of in measured.items():
        middle = {side: statistics.median(one.rate for one in loads) for side, loads in of.items()}
        cells = [f"{rate:,.0f} ({rate * kind.size / MB:,.0f})" for rate in middle.values()]
        cells += [f"{ratio(of, side, ONE):.2f}" for side in compared]
        lines.append(f"| {kind.name} | " + " | ".join(cells) + " |")
    heads = [*sides, f"{THREE} / {ONE}, at most here", "on two CPUs without the client"]
    lines += ["", "| µs of CPU: servers + client + Redis | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for kind, of in measured.items():
        times = [CpuTimes.of(of[side]) for side in sides]
        cells = [f"{one.servers * 1e6:,.0f} + {one.client * 1e6:,.0f} + {one.redis * 1e6:,.1f}" for one in times]
        cells += [f"{one:.2f}" for one in ratios_by_cpu_time(of)]
        lines.append(f"| {kind.name} | " + " | ".join(cells) + " |")
    return lines


@contextmanager
def storing(put: Callable[[int], None], every: float) -> Iterator[None]:
    """Store a recording every some s until the block ends, in a thread."""
    stopping = threading.Event()

    def run() -> None:
        for number in count(1_000_000):
            put(number)
            if stopping.wait(every):
                return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def requests_during(machine: Machine, run: Callable[[], float]) -> tuple[int, float, float]:
    """Return how many requests Redis received while a function ran, the time in s, and the result of the function."""
    before, began = machine.requests(), time.perf_counter()
    result = run()
    return machine.requests() - before - 1, time.perf_counter() - began, result


def idle(seconds: float) -> float:
    """Wait for some s, and return 0."""
    time.sleep(seconds)
    return 0.0


def hot_table(
    machine: Machine, servers: Sequence[Server], put: Callable[[int], None], seconds: int
) -> tuple[list[str], float]:
    """Return the lines of a table: requests of Redis during hits from memory; and how many a thousand hits cost."""

    def hit() -> float:
        return load(machine, servers, SHORT[0], seconds).rate * seconds

    lines = ["| three servers | hits | requests of Redis | a second |", "|---|---|---|---|"]
    rates = []
    for name, is_storing in (("", False), (", a recording stored each second", True)):
        for what, run in (("no requests", lambda: idle(seconds)), ("hits from memory", hit)):
            with ExitStack() as stack:
                if is_storing:
                    stack.enter_context(storing(put, 1.0))
                requests, took, responses = requests_during(machine, run)
            lines.append(f"| {what}{name} | {responses:,.0f} | {requests} | {requests / took:.1f} |")
            rates.append((requests / took, responses / took))
    return lines, max(rates[1][0] - rates[0][0], 0) / rates[1][1] * 1000


def first_hits(server: Server, numbers: Sequence[int]) -> float:
    """Request recordings that are not in memory, from one client; return the median of the times in s."""
    split, times = urlsplit(server.url), []
    with closing(http.client.HTTPConnection(split.netloc, timeout=60)) as connection:
        for number in numbers:
            began = time.perf_counter()
            connection.request("GET", f"{hits.path(number)}{'C' * 16}")
            response = connection.getresponse()
            response.read()
            times.append(time.perf_counter() - began)
            assert "; hit" in response.headers["Cache-Status"], response.headers
    return statistics.median(times)


def first_hit_table(machine: Machine, servers: Mapping[str, Server]) -> tuple[list[str], dict[str, float]]:
    """Return the lines of a table: hits of recordings that are not in memory; and the requests of Redis for each."""
    lines = ["| hit that is not in memory | ms, one client | requests of Redis | ms of CPU: server + Redis |"]
    lines.append("|---|---|---|---|")
    numbers = range(len(SIZES), len(SIZES) + MANY)
    without, took, _ = requests_during(machine, lambda: idle(1.0))
    costs = {}
    for name, server in servers.items():
        before, store_before = hits.cpu_time(server.pid), hits.cpu_time(machine.redis_pid())
        requests, lasted, median = requests_during(machine, lambda server=server: first_hits(server, numbers))  # type: ignore[misc]
        used = (hits.cpu_time(server.pid) - before) / MANY * 1e3
        store = (hits.cpu_time(machine.redis_pid()) - store_before) / MANY * 1e3
        costs[name] = max(requests - without / took * lasted, 0.0) / MANY
        lines.append(f"| {name} | {median * 1e3:.2f} | {costs[name]:.1f} | {used:.2f} + {store:.2f} |")
    return lines, costs


def miss_table(servers: Mapping[str, Server], rounds: int, numbers: Iterator[int]) -> tuple[list[str], float]:
    """Return the lines of a table: the time of misses by where they are stored; and the ratio of folder to disk."""
    times: dict[str, list[float]] = {name: [] for name in servers}
    used: dict[str, list[float]] = {name: [] for name in servers}
    for number in range(rounds + 1):
        for name, server in servers.items():
            before = hits.cpu_time(server.pid)
            _, total, size, status = misses.completed(server.url, f"images-{ANSWER}", next(numbers))
            assert "stored" in status, status
            if number:  # the first loads what is needed
                times[name].append(total)
                used[name].append(hits.cpu_time(server.pid) - before)
    lines = [f"| a miss of {size / MB:.1f} MB, stored in | ms | against disk | ms of CPU |", "|---|---|---|---|"]
    ratios = {
        name: statistics.median(one / other for one, other in zip(of, times[DISK], strict=True))
        for name, of in times.items()
    }
    for name, of in times.items():
        cpu = statistics.median(used[name]) * 1e3
        lines.append(f"| {name} | {statistics.median(of) * 1e3:.0f} | {ratios[name]:.2f} | {cpu:.0f} |")
    return lines, ratios[FOLDER]


def job_table(
    machine: Machine, sides: Mapping[str, Sequence[Server]], rounds: int, seconds: float, numbers: Iterator[int]
) -> list[str]:
    """Return the lines of a table: jobs a second whose products are ready at once, and their CPU time."""
    done: dict[str, list[float]] = {side: [] for side in sides}
    used: dict[str, list[float]] = {side: [] for side in sides}
    requests: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, servers in sides.items():
            before = sum(hits.cpu_time(server.pid) for server in servers)
            sent, took, ended = requests_during(
                machine,
                lambda servers=servers: asyncio.run(jobs(servers, numbers, seconds)),  # type: ignore[misc]
            )
            done[side].append(ended / took)
            used[side].append((sum(hits.cpu_time(server.pid) for server in servers) - before) / ended)
            requests[side].append(sent / ended)
    lines = [
        "| jobs of | jobs/s | ms of CPU of the servers for each | requests of Redis for each |",
        "|---|---|---|---|",
    ]
    for side in sides:
        cells = f"{statistics.median(done[side]):.1f} | {statistics.median(used[side]) * 1e3:.1f}"
        lines.append(f"| {side} | {cells} | {statistics.median(requests[side]):.0f} |")
    return lines


def fill(machine: Machine, url: str, sizes: Sequence[int]) -> tuple[Callable[[int], None], float]:
    """Store a recording for each size; return what stores one more, and the bytes of Redis for each of the last."""
    store = open_store(StoreAddress.parse(url), machine.upstream)

    async def run() -> float:
        before = machine.memory()
        async for recording, _ in hits.recordings(machine.folder, machine.upstream, sizes):
            if recording.head.size > MANY:
                before = machine.memory()
            store.put(recording)
        return (machine.memory() - before) / MANY

    return lambda number: store.put(hits.recording(f"{number:064x}", number, SIZES[0])), asyncio.run(run())


def measure(machine: Machine, *, is_full: bool) -> bool:
    """Print the tables and the targets; return whether one is far off."""
    sizes = [*SIZES, *(SIZES[0] for _ in range(MANY))]
    put, bytes_of_row = fill(machine, machine.store_url, sizes)
    asyncio.run(hits.fill(cache_folder(machine.folder / "disk", machine.upstream), machine.upstream, sizes))
    shared = ("--store", machine.store_url)
    three = [machine.serve(f"server-{number}", *shared, "--memory", "300MB") for number in range(SERVERS)]
    sides = {ONE: three[:1], THREE: three}
    media = {DISK: machine.serve("disk"), FOLDER: machine.serve("folder", *shared)}
    if is_full:
        fork = machine.serve("disk-of-workers", "--workers", str(SERVERS), "--memory", "900MB")
        asyncio.run(
            hits.fill(cache_folder(machine.folder / "disk-of-workers", machine.upstream), machine.upstream, SIZES)
        )
        sides[WORKERS] = [fork]
    if is_full and (url := machine.bucket_url()):
        fill(machine, url, sizes)
        media[BUCKET] = machine.serve("bucket", "--store", url)
    rounds, seconds, numbers = (7, 3, count(10_000)) if is_full else (2, 1, count(10_000))
    measured = rates(machine, sides, FULL if is_full else SHORT, rounds, seconds)
    print("", *rate_tables(measured), "", sep="\n")
    hot_lines, hot_cost = hot_table(machine, three, put, seconds)
    first_lines, first_costs = first_hit_table(machine, media)
    miss_lines, miss_ratio = miss_table(media, rounds, numbers)
    job_lines = job_table(machine, {side: sides[side] for side in (ONE, THREE)}, rounds // 2, seconds, numbers)
    print(*hot_lines, "", *first_lines, "", *miss_lines, "", *job_lines, "", sep="\n")
    print(f"memory of Redis for a recording: {bytes_of_row / 1e3:.1f} kB")
    return report(measured, hot_cost, first_costs[FOLDER], miss_ratio)


def report(
    measured: Mapping[Kind, Mapping[str, Sequence[Load]]], hot_cost: float, first_cost: float, miss_ratio: float
) -> bool:
    """Print which targets are reached; return whether one is far off."""
    is_far_off = False
    for kind, of in measured.items():
        here, alone = ratios_by_cpu_time(of)
        for what, reached in (
            (f"{THREE} / {ONE}", ratio(of, THREE, ONE)),
            ("by CPU times at most", here),
            ("by CPU times on two CPUs without the client", alone),
        ):
            verdict = "reached" if reached >= RATIO else "not reached"
            print(f"{kind.name}: {what}: {reached:.2f} (target {RATIO}): {verdict}")
        is_far_off |= alone < RATIO * FAR_OFF
    for what, value, limit in (
        ("requests of Redis for 1000 hits from memory", hot_cost, HOT_REQUESTS),
        ("requests of Redis for a hit that is not in memory", first_cost, COLD_REQUESTS),
        (f"a miss that is stored in {FOLDER} / on {DISK}", miss_ratio, MISS_RATIO),
    ):
        print(f"{what}: {value:.2f} (limit {limit}): {'within' if value < limit * 1.05 else 'beyond'}")
        is_far_off |= value > limit / FAR_OFF + 1
    return is_far_off


def main() -> int:
    """Print the tables; return 1 where a target is far off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="more sizes and rounds")
    parser.add_argument("--dispatcher", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.dispatcher:
        serve_dispatcher()
        return 0
    absent = [name for name in ("redis-server", "wrk") if not hits.tool(name)]
    if absent:
        print(f"benchmarks/replicas.py needs {' and '.join(absent)}, which is not installed")
        return 0
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        hits.print_heading(set(), CONNECTIONS)
        return measure(Machine(stack, Path(name)), is_full=options.full)


if __name__ == "__main__":
    sys.exit(main())
