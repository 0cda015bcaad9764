"""Hits a second: the proxy from memory and from disk, beside a bare aiohttp handler, nginx, Varnish and mitmproxy.

All serve the same bodies to the same requests, each from another session, over 16 connections. The servers are
measured in turn, and ratios are computed round by round, because the speed of the machine varies. The bare handler
finds ready bytes by the path of the request, and reads nothing else of it; two of them share a port, to show what a
second process can add while `wrk` needs a CPU, too. Programs that are not installed are left
out. Other parts measure the time to the first byte of a hit, the CPU time of a hit, and the memory after many hits of
mixed sizes.

    python benchmarks/hits.py           some seconds for each size; fails where a ratio is far off
    python benchmarks/hits.py --full    all sizes and servers, in minutes; prints the table of docs/performance.md
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.client
import os
import platform
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from oda_proxy.config.folders import cache_folder
from oda_proxy.query.descriptions import Descriptions
from oda_proxy.query.query import parse_fields, split_query
from oda_proxy.query.resolved import QueryResolver
from oda_proxy.recordings.api_code import with_gaps
from oda_proxy.recordings.head import MemoryHead
from oda_proxy.recordings.recording import Recording, splice
from oda_proxy.store.disk import DiskStore
from oda_proxy.upstream.dispatcher import Dispatcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence

    from oda_proxy.query.query import Envelope

MB = 1_000_000
SIZES = {"2 kB": 2_000, "1 MB": MB, "2 MB": 2 * MB, "25 MB": 25 * MB, "57 MB": 57 * MB}
"""Bytes of bodies: a light curve, an image, a spectrum, a mosaic of several bands, the largest known answer."""
SHORT = ("2 kB", "1 MB", "25 MB")
CONNECTIONS = 16
LONGER = 4
"""How much longer large bodies are measured: a slow server sends only some in a second."""
PATIENCE = 60.0
"""Seconds that a server has to start."""
MIXED, MIXED_MEMORY, MIXED_MARGIN = 10_000, 100 * MB, 64 * 1024 * 1024
"""Hits of mixed sizes, `--memory` for them, and how much more memory than that they may take."""

HOT, TWO, COLD = "memory", "two workers, memory", "disk"
BARE, NGINX, VARNISH, MITMPROXY = "bare handler", "nginx", "Varnish", "mitmproxy"
TWO_BARE = "two bare handlers"
OURS = (HOT, TWO, COLD)


@dataclass(frozen=True)
class Target:
    """A ratio to reach: which server, compared with which, for sizes up to `largest` bytes, from the one before."""

    server: str
    reference: str
    sizes: tuple[str, ...]
    ratio: float


TARGETS = (
    Target(HOT, BARE, ("2 kB",), 0.6),
    Target(HOT, BARE, ("1 MB", "2 MB"), 0.7),
    Target(TWO, BARE, ("2 kB",), 1.1),
    Target(HOT, NGINX, ("25 MB", "57 MB"), 0.7),
    Target(COLD, BARE, ("2 kB",), 0.25),
    Target(COLD, BARE, ("25 MB", "57 MB"), 0.4),
)
FAR_OFF = 0.2
"""Fraction of a target below which the benchmark fails: machines differ, and are loaded."""

API_CODE = """\
from oda_api.api import DispatcherAPI

disp=DispatcherAPI(url='http://dispatcher.example/dispatch-data', instrument='mock')

par_dict={
    "DEC": -37.844167,
    "E1_keV": 20.0,
    "E2_keV": 40.0,
    "RA": 255.986542,
    "T1": "2003-03-15T23:27:40.000",
    "T2": "2003-03-16T00:03:15.000",
    "detection_threshold": 5.0,
    "instrument": "isgri",
    "oda_api_version": "1.3.5",
    "off_line": "False",
    "product": "isgri_image",
    "product_type": "Real",
    "query_status": "new",
    "radius": 15.0
}

data_collection = disp.get_product(**par_dict)
"""


# -- what is served --------------------------------------------------------------------------------


def fields(number: int) -> dict[str, str]:
    """Return the fields of a query, but for its session, as `oda_api` 1.3.5 sends them; the number is in its radius."""
    return {
        "T1": "2003-03-15T23:27:40.0",
        "T2": "2003-03-16T00:03:15.0",
        "E1_keV": "20.0",
        "E2_keV": "40.0",
        "RA": "255.986542",
        "DEC": "-37.844167",
        "detection_threshold": "5.0",
        "radius": f"{15 + number}.0",
        "instrument": "isgri",
        "product_type": "isgri_image",
        "query_type": "Real",
        "off_line": "False",
        "query_status": "new",
        "api": "True",
        "oda_api_version": "1.3.5",
    }


def path(number: int) -> str:
    """Return path and query of a request, up to the value of its session_id."""
    return f"/run_analysis?{urlencode(fields(number))}&session_id="


async def fill(folder: Path, upstream: str, sizes: Sequence[int]) -> list[bytes]:
    """Store a recording for each size in a folder, and return their bodies as a client receives them."""
    bodies = []
    with closing(DiskStore(folder)) as store:
        async for made, envelope in recordings(folder, upstream, sizes):
            store.put(made)
            if len(sizes) <= len(SIZES):
                bodies.append(b"".join(splice(made, envelope, now=time.time(), address=upstream)))
    return bodies


async def recordings(
    folder: Path, upstream: str, sizes: Iterable[int], first: int = 0
) -> AsyncIterator[tuple[Recording, Envelope]]:
    """Yield a recording for each size, with what its client gets of its own; descriptions are stored in a folder.

    The numbers of their queries begin with `first`.
    """
    async with Dispatcher(upstream) as dispatcher:
        resolver = QueryResolver(Descriptions(dispatcher, folder, ttl=300.0, clock=time.monotonic))
        for number, size in enumerate(sizes, first):
            query, envelope = split_query(parse_fields(path(number).partition("?")[2] + "A" * 16))
            yield recording((await resolver.resolve(query)).key, number, size), envelope


def recording(key: str, number: int, size: int) -> Recording:
    """Return a recording with a body of about `size` bytes, of which the largest part is an array in base64."""
    echo = {name: value for name, value in fields(number).items() if name not in {"query_status", "off_line", "api"}}
    array = base64.b64encode(random.Random(number).randbytes(max(size * 3 // 4 - 1800, 30)))  # noqa: S311 - an array
    head = b'"numpy_data_product_list":[{"name":"image","data_unit_list":[{"binarys":"%b"}]}]' % array
    return Recording(
        key=key,  # type: ignore[arg-type]  # a key is a text
        stored_at=time.time(),
        head=MemoryHead(head),
        exit_status={"status": 0, "message": "", "error_message": "", "debug_message": "", "comment": ""},
        parameters={"analysis_parameters": echo},
        echoed=("session_id", "query_status", "token", "oda_api_version", "off_line"),
        query=None,
        cost=60.0,
        client_members={"api_code": with_gaps(API_CODE)},
    )


# -- servers ---------------------------------------------------------------------------------------


@contextmanager
def program(*command: str, log: Path, cwd: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends; its output goes to a file."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}  # writes half lines
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output, cwd=cwd, env=environment) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


def started(log: Path) -> str:
    """Return the address at which a program of ours listens."""
    for _ in range(int(PATIENCE / 0.05)):
        if found := re.search(r"listening on (\S+)\n", log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"it did not start: {log.read_text()}")


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_for(port: int, log: Path) -> None:
    """Wait until a program listens on a port."""
    for _ in range(int(PATIENCE / 0.05)):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.05)
    raise RuntimeError(f"it did not start: {log.read_text()}")


async def bare(bodies: Sequence[bytes], port: int) -> None:
    """Serve bodies from memory: `/<number>/run_analysis`, for any query; several programs may share the port."""
    app = web.Application()
    for number, body in enumerate(bodies):
        app.router.add_get(f"/{number}/run_analysis", _ready(body))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_port=True).start()
    print(f"listening on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


def _ready(body: bytes):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a handler of aiohttp
    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    return handle


@contextmanager
def proxy(cache: Path, upstream: str, memory: int | None, log: Path, *, workers: int = 1) -> Iterator[tuple[str, int]]:
    """Run the proxy; yield its address and process id."""
    command = [sys.executable, "-m", "oda_proxy.cli", "serve", "--port", "0", "--upstream", upstream]
    command += ["--workers", str(workers)]
    command += ["--cache-dir", str(cache), *(() if memory is None else ("--memory", str(memory)))]
    with program(*command, log=log) as process:
        yield started(log), process.pid


NGINX_CONF = """\
{user}worker_processes 1;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log crit;
events {{ worker_connections 64; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  proxy_cache_path {folder}/cache keys_zone=all:10m max_size=10g;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass {upstream};
      proxy_cache all;
      proxy_cache_key $uri$arg_radius$arg_RA$arg_DEC$arg_T1$arg_T2;
      proxy_cache_valid 200 1d;
    }}
  }}
}}
"""


@contextmanager
def nginx(folder: Path, upstream: str) -> Iterator[str]:
    """Run nginx with one worker and its cache in front of the bare handler."""
    folder.mkdir()
    port = free_port()
    user = "user root;\n" if os.geteuid() == 0 else ""  # the workers of root read the folder of root
    (folder / "conf").write_text(NGINX_CONF.format(user=user, folder=folder, port=port, upstream=upstream))
    with program(tool("nginx"), "-c", str(folder / "conf"), "-p", str(folder), log=folder / "log"):
        wait_for(port, folder / "log")
        yield f"http://127.0.0.1:{port}"


VCL = """\
vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{port}"; }}
sub vcl_hash {{
  hash_data(regsub(req.url, "session_id=[^&]*", ""));
  return (lookup);
}}
sub vcl_backend_response {{ set beresp.ttl = 1d; }}
"""


@contextmanager
def varnish(folder: Path, upstream: str) -> Iterator[str]:
    """Run Varnish in front of the bare handler."""
    folder.mkdir()
    port = free_port()
    (folder / "vcl").write_text(VCL.format(port=urlsplit(upstream).port))
    command = [tool("varnishd"), "-F", "-j", "none", "-n", str(folder / "run"), "-f", str(folder / "vcl")]
    command += ["-a", f"127.0.0.1:{port}", "-s", "malloc,512m"]
    with program(*command, log=folder / "log"):
        wait_for(port, folder / "log")
        yield f"http://127.0.0.1:{port}"


@contextmanager
def mitmproxy(folder: Path, upstream: str, count: int) -> Iterator[str]:
    """Record the bodies with mitmproxy, and run it as a server that replays them, whatever the session_id."""
    folder.mkdir()
    port = free_port()
    flows, common = str(folder / "flows"), [tool("mitmdump"), "-q", "-p", str(port), "--listen-host", "127.0.0.1"]
    common += ["--mode", f"reverse:{upstream}", "--set", f"confdir={folder}"]
    with program(*common, "-w", flows, log=folder / "log"):
        wait_for(port, folder / "log")
        for number in range(count):
            first_byte(f"http://127.0.0.1:{port}/{number}", number)
    command = [*common, "--set", f"server_replay={flows}", "--set", "server_replay_ignore_params=session_id"]
    with program(*command, "--set", "server_replay_reuse=true", log=folder / "log"):
        wait_for(port, folder / "log")
        yield f"http://127.0.0.1:{port}"


def tool(name: str) -> str:
    """Return the path of a program; empty where it is not installed."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin") or ""


# -- load ------------------------------------------------------------------------------------------

LUA = """\
local sent = 0
request = function()
  sent = sent + 1
  return wrk.format("GET", wrk.path .. string.format("%016d", sent))
end
done = function(summary)
  local bad = summary.errors
  print("measured", summary.duration, summary.requests, summary.bytes, bad.connect + bad.read + bad.write + bad.status)
end
"""


def load(url: str, number: int, seconds: float, folder: Path) -> float:
    """Return the bytes a second that 16 connections receive; raises RuntimeError where a response is no success."""
    target = f"{url}{path(number)}"
    if not (wrk := tool("wrk")):
        return asyncio.run(_load(target, seconds))
    (script := folder / "load.lua").write_text(LUA)
    command = [
        wrk,
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{max(seconds, 1):.0f}s",
        "--timeout",
        "60s",
        "-s",
        str(script),
        target,
    ]
    output = subprocess.run([*command, target], capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in output.splitlines() if line.startswith("measured")]
    duration, _, size, errors = map(int, line.split()[1:])
    if errors or not size:
        raise RuntimeError(f"{url}: {errors} responses failed\n{output}")
    return size / duration * 1e6


async def _load(target: str, seconds: float) -> float:
    """Measure as wrk does, which is not installed: with 16 clients in this process."""
    import aiohttp

    end, received = time.perf_counter() + seconds, 0

    async def client(session: aiohttp.ClientSession, number: int) -> None:
        nonlocal received
        while time.perf_counter() < end:
            async with session.get(f"{target}{number:016d}") as response:
                response.raise_for_status()
                async for chunk in response.content.iter_any():
                    received += len(chunk)
            number += CONNECTIONS

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began = time.perf_counter()
        await asyncio.gather(*(client(session, number) for number in range(CONNECTIONS)))
    return received / (time.perf_counter() - began)


def first_byte(url: str, number: int) -> tuple[float, float, int]:
    """Return the times in s to the first byte of the body of a hit and to its end, and the bytes."""
    split = urlsplit(url)
    with closing(http.client.HTTPConnection(split.netloc, timeout=600)) as connection:
        connection.connect()
        began = time.perf_counter()
        connection.request("GET", f"{split.path}{path(number)}{'F' * 16}")
        response = connection.getresponse()
        size = len(response.read(1))
        first = time.perf_counter() - began
        while piece := response.read(MB):
            size += len(piece)
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{url}: {response.status} {response.headers}")
        return first, time.perf_counter() - began, size


# -- parts -----------------------------------------------------------------------------------------


def rates(
    servers: Mapping[str, str], sizes: Mapping[str, int], rounds: int, seconds: float, folder: Path
) -> dict[str, dict[str, list[float]]]:
    """Return the bytes a second of each server for each size, round by round."""
    measured: dict[str, dict[str, list[float]]] = {}
    for number, size in enumerate(sizes):
        for url in servers.values():
            for _ in range(2):  # once, to fill caches
                first_byte(url if "{}" not in url else url.format(number), number)
        measured[size] = {name: [] for name in servers}
        lasting = seconds * (LONGER if sizes[size] > 10 * MB else 1)
        for _ in range(rounds):
            for name, url in servers.items():
                measured[size][name].append(load(url.format(number), number, lasting, folder))
    return measured


def ratio(of: Mapping[str, list[float]], server: str, reference: str) -> float | None:
    """Return the median of the ratios of two servers, or None where one of them is left out."""
    if server not in of or reference not in of:
        return None
    return statistics.median(one / other for one, other in zip(of[server], of[reference], strict=True))


def table(measured: Mapping[str, Mapping[str, list[float]]], sizes: Mapping[str, int]) -> list[str]:
    """Return the lines of a Markdown table: hits a second, and ratios."""
    names = list(next(iter(measured.values())))
    pairs = [(HOT, BARE), (HOT, NGINX), (TWO, BARE), (TWO_BARE, BARE), (COLD, BARE)]
    pairs = [pair for pair in pairs if set(pair) <= set(names)]
    titles = [f"oda-proxy, {name}" if name in OURS else name for name in names]
    lines = ["| hits a second | " + " | ".join([*titles, *(f"{one} / {other}" for one, other in pairs)]) + " |"]
    lines.append("|---|" + "---|" * (len(names) + len(pairs)))
    for size, of in measured.items():
        hits = [f"{statistics.median(of[name]) / sizes[size]:,.{0 if sizes[size] < 10 * MB else 1}f}" for name in names]
        ratios = [f"{ratio(of, *pair):.2f}" for pair in pairs]
        lines.append(f"| {size} | " + " | ".join([*hits, *ratios]) + " |")
    return lines


def first_bytes(servers: Mapping[str, str], sizes: Mapping[str, int], rounds: int) -> list[str]:
    """Return the lines of a table: the time in ms to the first byte of a hit, and to its end, for one client."""
    lines = ["| ms to the first byte (to the end) | " + " | ".join(servers) + " |", "|---|" + "---|" * len(servers)]
    for number, size in enumerate(sizes):
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
        for _ in range(rounds):
            for name, url in servers.items():
                times[name].append(first_byte(url.format(number), number)[:2])
        columns = [[statistics.median(column) * 1e3 for column in zip(*of, strict=True)] for of in times.values()]
        lines.append(f"| {size} | " + " | ".join(f"{first:.1f} ({end:.1f})" for first, end in columns) + " |")
    return lines


def cpu_times(
    processes: Mapping[str, int], servers: Mapping[str, str], size: int, rounds: int, folder: Path
) -> list[str]:
    """Return the lines of a table: the CPU time in µs of each server for a hit of the first size.

    It tells how servers compare where the cores are busy with other programs, or with the client.
    """
    times: dict[str, list[float]] = {name: [] for name in processes}
    for _ in range(rounds):
        for name, pid in processes.items():
            before, began = cpu_time(pid), time.perf_counter()
            rate = load(servers[name].format(0), 0, 1.0, folder)
            times[name].append((cpu_time(pid) - before) / (rate / size * (time.perf_counter() - began)) * 1e6)
    columns = " | ".join(f"{statistics.median(of):.0f}" for of in times.values())
    return [f"| µs of CPU time | {' | '.join(times)} |", "|---|" + "---|" * len(times), f"| a hit | {columns} |"]


def cpu_time(pid: int) -> float:
    """Return the CPU time in s of a process and of the workers that it has started."""
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    ticks = 0
    for process in (pid, *children):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def print_heading(left_out: set[str], connections: int = CONNECTIONS) -> None:
    """Print the date and the machine, and which programs are left out because they are not installed."""
    machine = f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}"
    client = "wrk" if tool("wrk") else "a client in Python (wrk is not installed)"
    load = f"load {os.getloadavg()[0]:.1f}"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}, {load}; {client}, {connections} connections")
    if left_out:
        print(f"not installed, left out: {', '.join(sorted(left_out))}")


def resident(pid: int, name: str) -> int:
    """Return what a process takes now (`VmRSS`) or took at most (`VmHWM`), in bytes."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


def memory_growth(folder: Path, upstream: str, hits: int) -> int:
    """Return by how many bytes hits of mixed sizes, of more recordings than `--memory` holds, make the proxy grow."""
    cache, generator = folder / "mixed", random.Random(1)  # noqa: S311 - sizes
    sizes = [
        *(2_000 for _ in range(1500)),
        *(200_000 for _ in range(300)),
        *(2 * MB for _ in range(50)),
        20 * MB,
        25 * MB,
    ]
    generator.shuffle(sizes)
    asyncio.run(fill(cache_folder(cache, upstream), upstream, sizes))
    with proxy(cache, upstream, MIXED_MEMORY, folder / "mixed.log") as (url, pid):
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        with closing(connection):
            for hit in range(hits + 1):
                connection.request("GET", f"{path(generator.randrange(len(sizes)))}{hit:016d}")
                response = connection.getresponse()
                while response.read(MB):
                    pass
                assert "; hit" in response.headers["Cache-Status"], response.headers
                if hit == 0:
                    before = resident(pid, "VmRSS")
        return resident(pid, "VmHWM") - before


def references(
    stack: ExitStack, folder: Path, bodies: Sequence[bytes], *, is_full: bool
) -> tuple[dict[str, str], dict[str, int]]:
    """Start the servers to compare with; return their addresses, and the process id of the bare handler."""
    ready = folder / "ready"
    ready.mkdir()
    for number, body in enumerate(bodies):
        (ready / str(number)).write_bytes(body)
    command = (sys.executable, __file__, "--bare", str(ready), "--port")
    process = stack.enter_context(program(*command, "0", log=folder / "bare"))
    url, port = started(folder / "bare"), str(free_port())
    servers = {BARE: f"{url}/{{}}", TWO_BARE: f"http://127.0.0.1:{port}/{{}}"}
    for number in range(2):
        stack.enter_context(program(*command, port, log=folder / f"bare-{number}"))
        started(folder / f"bare-{number}")
    if tool("nginx"):
        servers[NGINX] = stack.enter_context(nginx(folder / "nginx", url)) + "/{}"
    if is_full and tool("varnishd"):
        servers[VARNISH] = stack.enter_context(varnish(folder / "varnish", url)) + "/{}"
    if is_full and tool("mitmdump"):
        servers[MITMPROXY] = stack.enter_context(mitmproxy(folder / "mitmproxy", url, len(bodies))) + "/{}"
    return servers, {BARE: process.pid}


def main() -> int:
    """Print the tables; return 1 where a ratio is far off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all sizes and servers")
    parser.add_argument("--rounds", type=int, help="number of rounds")
    parser.add_argument("--seconds", type=float, help="seconds for each server, size and round")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, help="sizes of bodies")
    parser.add_argument("--no-memory", action="store_true", help="leave out the part about memory")
    parser.add_argument("--bare", type=Path, metavar="DIR", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        asyncio.run(bare([file.read_bytes() for file in sorted(options.bare.iterdir())], options.port))
        return 0
    sizes = {name: SIZES[name] for name in options.sizes or (SIZES if options.full else SHORT)}
    rounds, seconds = options.rounds or (7 if options.full else 2), options.seconds or (2.0 if options.full else 1.0)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        log = folder / "mock"
        stack.enter_context(program(sys.executable, "-m", "oda_proxy.cli", "mock", "--port", "0", log=log))
        upstream = started(log)
        cache = folder / "cache"
        bodies = asyncio.run(fill(cache_folder(cache, upstream), upstream, list(sizes.values())))
        servers, processes = references(stack, folder, bodies, is_full=options.full)
        for kind, (memory, workers) in {HOT: (None, 1), TWO: (None, 2), COLD: (0, 1)}.items():
            ours = proxy(cache, upstream, memory, folder / kind, workers=workers)
            servers[kind], processes[kind] = stack.enter_context(ours)
        measured = rates(servers, sizes, rounds, seconds, folder)
        print_heading({NGINX, VARNISH, MITMPROXY} - set(servers) if options.full else set())
        print("", *table(measured, sizes), "", sep="\n")
        print(*first_bytes({name: servers[name] for name in (BARE, *OURS)}, sizes, rounds), "", sep="\n")
        print(*cpu_times(processes, servers, len(bodies[0]), rounds, folder), "", sep="\n")
        failed = report(measured)
    if options.no_memory:
        return failed
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        stack.enter_context(program(sys.executable, "-m", "oda_proxy.cli", "mock", "--port", "0", log=folder / "mock"))
        grown = memory_growth(folder, started(folder / "mock"), MIXED if options.full else MIXED // 5)
    limit = MIXED_MEMORY + MIXED_MARGIN
    print(f"memory after hits of mixed sizes: {grown / MB:.0f} MB more than at the start (limit {limit / MB:.0f} MB)")
    return failed or grown > limit


def report(measured: Mapping[str, Mapping[str, list[float]]]) -> bool:
    """Print which targets are reached; return whether a ratio is far off."""
    is_far_off = False
    for target in TARGETS:
        for size in target.sizes:
            reached = ratio(measured.get(size, {}), target.server, target.reference)
            if reached is not None:
                verdict = "reached" if reached >= target.ratio else "not reached"
                what = f"{size} from {target.server}: {reached:.2f} of {target.reference}"
                print(f"{what} (target {target.ratio}): {verdict}")
                is_far_off |= reached < target.ratio * FAR_OFF
    return is_far_off


if __name__ == "__main__":
    sys.exit(main())
