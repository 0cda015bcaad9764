"""Several servers that share a Redis, each behind a relay that can be cut, and clients whose requests reach any."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.crowds import page, wait_until
from tests.support.servers import running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.support.redis_server import RedisServer
    from tests.support.servers import Server

_QUICK_PROGRAM = (
    "from oda_proxy.servers import replicas; from oda_proxy.replicas.timing import Timing; import sys;"
    "replicas.TIMING = Timing(heartbeat=1.0, lease=1.6, look=0.3); replicas.ORPHANS_EVERY = 1.0;"
    "from oda_proxy.cli import main; sys.exit(main())"
)
REAL = ("-m", "oda_proxy.cli")
"""A server as it is."""
QUICK = ("-c", _QUICK_PROGRAM)
"""A server that notices within a second or two what others do."""


class CuttableRelay:
    """A relay to a port of 127.0.0.1; while it is cut, connections stay and nothing passes."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._passes = threading.Event()
        self._passes.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def cut(self) -> None:
        """Let nothing pass."""
        self._passes.clear()

    def mend(self) -> None:
        """Let everything pass, also what has waited."""
        self._passes.set()

    def close(self) -> None:
        """Accept no more connections."""
        self._passes.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as server:
            back = threading.Thread(target=self._copy, args=(server, client), daemon=True)
            back.start()
            self._copy(client, server)
            back.join()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(65536):
                self._passes.wait()
                sink.sendall(chunk)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Replicas:
    """The servers, and the relay of each to Redis."""

    servers: list[Server]
    relays: list[CuttableRelay]

    def living(self) -> list[Server]:
        """Return the servers that run."""
        return [server for server in self.servers if server.process.poll() is None]

    def leader(self) -> int:
        """Wait until one of them leads a job; return its number."""
        found: list[int] = []

        def leads() -> bool:
            found[:] = [
                number
                for number, server in enumerate(self.servers)
                if server.process.poll() is None and page(server, "status")["replicas"]["leads"]
            ]
            return len(found) == 1

        wait_until(leads)
        return found[0]


@contextmanager
def replicas_running(
    folder: Path,
    upstream: str,
    redis: RedisServer,
    *,
    count: int = 3,
    heads: Path | None = None,
    env: Mapping[str, str] | None = None,
    program: Sequence[str] = QUICK,
    options: Sequence[str] = (),
) -> Iterator[Replicas]:
    """Run servers that share a store until the block ends; some may have been killed by then."""
    heads = heads or folder / "heads"
    heads.mkdir(exist_ok=True)
    with ExitStack() as stack:
        servers, relays = [], []
        for number in range(count):
            relay = CuttableRelay(redis.port)
            stack.callback(relay.close)
            relays.append(relay)
            store = f"redis://127.0.0.1:{relay.port}/0?bodies=file://{heads}"
            cache = str(folder / f"cache-{number}")
            words = ("serve", "--upstream", upstream, "--port", "0", "--store", store, "--cache-dir", cache, *options)
            log = folder / f"replica-{number}.log"
            servers.append(stack.enter_context(running(log, *words, program=program, env=env)))
        yield Replicas(servers, relays)
