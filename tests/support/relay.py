"""A TCP relay between a client and a server: it counts bytes, and can be as slow as a network."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 16 * 1024


class Relay:
    """A relay to one server; `received` are the bytes that clients received."""

    def __init__(self, target: tuple[str, int], rate: float | None) -> None:
        """Take the address of the server, and the bytes/s of all connections together to clients; None for no limit."""
        self.received = 0
        self._target = target
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def run(self) -> None:
        """Relay connections until the relay is closed."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            requests = threading.Thread(target=self._copy, args=(client, server), daemon=True)
            requests.start()
            self._copy(server, client, is_answer=True)
            requests.join()

    def _copy(self, source: socket.socket, sink: socket.socket, *, is_answer: bool = False) -> None:
        with suppress(OSError):
            while chunk := source.recv(_CHUNK):
                if is_answer:
                    self._delay(len(chunk))
                sink.sendall(chunk)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _delay(self, size: int) -> None:
        """Count bytes, and wait until a link of this rate has transferred them."""
        with self._lock:
            self.received += size
            if self._rate is None:
                return
            self._free_at = max(self._free_at, time.monotonic()) + size / self._rate
            delay = self._free_at - time.monotonic()
        time.sleep(max(delay, 0.0))


@contextmanager
def relaying(url: str, rate: float | None = None) -> Iterator[Relay]:
    """Relay to the server at `url` until the block ends; `rate` is in bytes/s."""
    address = urlsplit(url)
    relay = Relay((address.hostname or "", address.port or 80), rate)
    thread = threading.Thread(target=relay.run, daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        relay.close()
        thread.join()
