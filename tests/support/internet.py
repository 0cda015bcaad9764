"""A stand-in for the internet: hosts of a test on this machine, behind a proxy that notes requests.

It is made of the standard library's servers and shares nothing with the proxies that it is there to check.
"""

from __future__ import annotations

import ssl
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import trustme

from tests.support.servers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@dataclass(frozen=True)
class Page:
    """The answer of a place."""

    body: bytes
    content_type: str = "text/plain"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


if TYPE_CHECKING:
    Place = str | Page | Callable[[str], Page]


@dataclass
class Internet:
    """The places by the beginning of their addresses; a program with this `environment` finds them.

    A place is the address of a server on this machine (plain HTTP), or a page, or what makes a page of an address.
    """

    places: Mapping[str, Place]
    url: str
    """The proxy's address."""
    bundle: Path
    """The certificate to trust."""
    contexts: Mapping[str, ssl.SSLContext]
    connections: list[str] = field(default_factory=list)
    """`host:port` of every CONNECT."""
    requests: list[str] = field(default_factory=list)
    """`METHOD address` of every request, known place or not."""

    @property
    def environment(self) -> dict[str, str]:
        """What a program is started with; servers on this machine are not reached through the proxy."""
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), self.url)
        here = dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1,::1")
        trusted = dict.fromkeys(("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), str(self.bundle))
        return {**proxies, **here, **trusted}

    def find(self, url: str) -> tuple[Place, str] | None:
        """Give the place with the longest address, and the rest of `url`."""
        for address in sorted(self.places, key=len, reverse=True):
            rest = url.removeprefix(address)
            if url.startswith(address) and (not rest or address.endswith("/") or rest[0] in "/?"):
                return self.places[address], rest
        return None


@contextmanager
def internet(places: Mapping[str, Place]) -> Iterator[Internet]:
    """Run an internet of these places, as `{"https://odahub.io/oda-sites.ttl": Page(b"...")}`, until the block ends."""
    ca = trustme.CA()
    contexts = {}
    for host in {urlsplit(address).hostname or "" for address in places}:
        contexts[host] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert(host).configure_cert(contexts[host])
    with tempfile.TemporaryDirectory() as folder, _Server(("127.0.0.1", 0), _Connection) as server:
        bundle = Path(folder) / "trusted.pem"
        ca.cert_pem.write_to_path(bundle)
        server.internet = Internet(places, f"http://127.0.0.1:{server.server_port}", bundle, contexts)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.internet
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    internet: Internet

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away, or that do not trust us: their tests see it."""


class _Connection(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE
    tunnel = ""

    def do_CONNECT(self) -> None:
        net, (host, _, port) = self.server.internet, self.path.rpartition(":")
        net.connections.append(self.path)
        if host not in net.contexts:
            self.send_error(502, f"there is no host {host} here")
            return
        self.send_response(200)
        self.end_headers()
        self.connection = net.contexts[host].wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", buffering=0)
        self.tunnel = f"https://{host}" if port == "443" else f"https://{self.path}"
        self.close_connection = False

    def _forward(self) -> None:
        url = f"{self.tunnel}{self.path}"
        self.server.internet.requests.append(f"{self.command} {url}")
        body = self._body()
        match self.server.internet.find(url):
            case None:
                page = Page(f"there is no {url} here\n".encode(), status=502)
            case (str(server), rest):
                page = self._fetch(server, rest, body)
            case (Page() as page, _):
                pass
            case (make, _):
                page = make(url)
        self.send_response(page.status)
        for name, value in (("Content-Type", page.content_type), *page.headers):
            self.send_header(name, value)
        if page.status not in {204, 304}:
            self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _forward  # noqa: N815 - the names are http.server's

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _fetch(self, server: str, rest: str, body: bytes) -> Page:
        """Ask a server on this machine."""
        address = urlsplit(server)
        dropped = {"host", "connection", "proxy-connection", "content-length", "transfer-encoding"}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
        connection = HTTPConnection(address.hostname or "", address.port, timeout=PATIENCE)
        try:
            connection.request(self.command, f"{address.path}{rest}" or "/", body or None, headers)
            response = connection.getresponse()
            kept = [(name, value) for name, value in response.getheaders() if name.lower() not in dropped]
            content_type = response.headers.get("Content-Type", "application/octet-stream")
            kept = [(name, value) for name, value in kept if name.lower() not in {"content-type", "date", "server"}]
            return Page(response.read(), content_type, response.status, tuple(kept))
        finally:
            connection.close()

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        pass
