"""A scripted HTTP server on this machine, of the standard library."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

    from tests.support.internet import Page


@dataclass(frozen=True)
class Received:
    """A request."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass
class ScriptedServer:
    """A server at `url`, with the requests that it received."""

    url: str
    requests: list[Received] = field(default_factory=list)


@contextmanager
def http_server(
    answer: Callable[[Received], Page], *, host: str = "127.0.0.1", context: ssl.SSLContext | None = None
) -> Iterator[ScriptedServer]:
    """Run a server that answers each request with a page, behind TLS where there is a context, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            received = Received(self.command, self.path, dict(self.headers.items()), body)
            scripted.requests.append(received)
            page = answer(received)
            self.send_response(page.status)
            for name, value in (("Content-Type", page.content_type), *page.headers):
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(page.body)

        do_GET = do_HEAD = do_POST = _answer  # noqa: N815 - the names are http.server's

        def log_message(self, *arguments: object) -> None:
            pass

    with _Server((host, 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        scripted = ScriptedServer(f"http{'s' if context else ''}://{host}:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield scripted
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing for clients that went away."""
