"""Proxies of the environment are used, and credentials of whoever runs the proxy go to no server."""

from __future__ import annotations

import asyncio
import base64
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trustme
from yarl import URL

from oda_proxy.cli import main
from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.http.message import Request
from oda_proxy.upstream.any_server import AnyServer, ServerUnreachableError
from oda_proxy.upstream.dispatcher import Dispatcher
from oda_proxy.upstream.environment_proxies import UnusableProxyError, proxy_for
from tests.support.http_server import http_server
from tests.support.internet import Page

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

VARIABLES = [
    name for proxy in ("http_proxy", "https_proxy", "no_proxy", "all_proxy") for name in (proxy, proxy.upper())
]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@dataclass
class Server:
    """A server or proxy that responds with a status, and records the heads of its requests."""

    status: int = 200
    url: str = ""
    heads: list[str] = field(default_factory=list)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 %d Text\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % self.status)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def serve(status: int = 200) -> AsyncIterator[Server]:
    server = Server(status)
    listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
    server.url = "http://127.0.0.1:{1}".format(*listening.sockets[0].getsockname())
    yield server
    listening.close()
    await listening.wait_closed()


async def send(url: str, *headers: tuple[str, str]) -> None:
    """Send a request by either client, and to be sent at most once."""
    request = Request("GET", "/run_analysis", "RA=1", headers)
    async with Dispatcher(url) as dispatcher, AnyServer(use_env_proxies=True) as servers:
        for at_most_once in (False, True):
            await (await dispatcher.send(Request("GET", "/", "", headers, at_most_once=at_most_once))).body.aclose()
        await (await servers.send(url, request)).body.aclose()


@pytest.mark.parametrize("entry", ["machine 127.0.0.1", "default"])
async def test_the_netrc_of_whoever_runs_the_proxy_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    (tmp_path / ".netrc").write_text(f"{entry} login bob password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))

    async with serve() as server:
        await send(server.url)
        await send(server.url, ("Authorization", "Bearer of-the-client"))

    credentials = [line for head in server.heads for line in head.splitlines() if "authorization" in line.casefold()]
    assert credentials == ["Authorization: Bearer of-the-client"] * 3


async def test_requests_go_through_the_proxy_of_the_environment_with_its_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serve() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://bob:p%40ss@"))
        await send("http://dispatcher.example", ("Authorization", "Bearer of-the-client"))

    assert [head.partition(" HTTP")[0] for head in proxy.heads] == [
        "GET http://dispatcher.example/",
        "GET http://dispatcher.example/",
        "GET http://dispatcher.example/run_analysis?RA=1",
    ]
    credentials = base64.b64encode(b"bob:p@ss").decode()
    assert all(f"Proxy-Authorization: Basic {credentials}" in head for head in proxy.heads)
    assert all("Authorization: Bearer of-the-client" in head for head in proxy.heads)


async def test_a_host_of_no_proxy_is_requested_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:3128")

    async with serve() as server:
        await send(server.url)

    assert len(server.heads) == 3


async def test_an_error_of_the_proxy_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://bob:secret@127.0.0.1:1")
    async with Dispatcher("http://dispatcher.example") as dispatcher, AnyServer(use_env_proxies=True) as servers:
        for error, sending in (
            (UpstreamUnreachableError, dispatcher.send(Request("GET", "/"))),
            (ServerUnreachableError, servers.send("http://dispatcher.example", Request("GET", "/"))),
        ):
            with pytest.raises(error, match=r"the proxy of the environment, 127\.0\.0\.1 port 1: Connection") as raised:
                await sending
            assert "secret" not in str(raised.value)


async def test_a_refusal_of_the_proxy_names_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(407) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        async with Dispatcher("https://dispatcher.example") as dispatcher, AnyServer(use_env_proxies=True) as servers:
            with pytest.raises(UpstreamUnreachableError, match="the proxy of the environment responded 407"):
                await dispatcher.send(Request("GET", "/"))
            with pytest.raises(ServerUnreachableError, match="the proxy of the environment responded 407"):
                await servers.send("https://dispatcher.example", Request("GET", "/"))


@pytest.mark.parametrize(
    ("url", "no_proxy", "expected"),
    [
        ("http://a.example/", "", "http://proxy.example:3128"),
        ("https://a.example/", "", None),
        ("http://a.example/", "a.example", None),
        ("http://a.example/", "example", None),
        ("http://a.example:81/", "a.example:81", None),
        ("http://a.example:82/", "a.example:81", "http://proxy.example:3128"),
        ("http://a.example/", "*", None),
        ("http://[::1]/", "::1", None),
    ],
)
def test_no_proxy_names_hosts_domains_and_ports(
    monkeypatch: pytest.MonkeyPatch, url: str, no_proxy: str, expected: str | None
) -> None:
    monkeypatch.setenv("http_proxy", "proxy.example:3128")
    monkeypatch.setenv("no_proxy", no_proxy)

    assert proxy_for(URL(url)) == (expected and URL(expected))


@pytest.mark.parametrize(
    ("variable", "proxy", "what"),
    [
        ("http_proxy", "socks5://bob:secret@proxy.example:1080", "a proxy of the scheme 'socks5'"),
        ("all_proxy", "socks5h://proxy.example:1080", "a proxy of the scheme 'socks5h'"),
        ("http_proxy", "http://:x", "no address of a proxy"),
        ("http_proxy", "[[", "no address of a proxy"),
    ],
)
async def test_a_proxy_that_is_not_supported_is_not_gone_around(
    monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str, what: str
) -> None:
    monkeypatch.setenv(variable, proxy)
    url = "http://dispatcher.example"

    for entered in (Dispatcher(url), AnyServer(use_env_proxies=True)):
        with pytest.raises(
            UnusableProxyError, match=f"{variable} of the environment names {what}; oda-proxy"
        ) as raised:
            await entered.__aenter__()
        assert "secret" not in str(raised.value)
    monkeypatch.setenv("no_proxy", "dispatcher.example")
    async with Dispatcher(url):
        pass
    monkeypatch.setenv("no_proxy", "*")
    async with AnyServer(use_env_proxies=True):
        pass


def test_a_command_ends_at_its_start_where_the_proxy_is_not_supported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("all_proxy", "socks5://proxy.example:1080")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    for command in (["serve", "--port", "0"], ["record", "-o", str(tmp_path / "c"), "--", "true"]):
        assert main([*command]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "all_proxy of the environment names a proxy of the scheme 'socks5'" in line
    assert not (tmp_path / "c").exists()


def test_all_proxy_counts_where_the_scheme_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "http://all.example:1")
    monkeypatch.setenv("https_proxy", "http://tls.example:2")

    assert proxy_for(URL("http://a.example/")) == URL("http://all.example:1")
    assert proxy_for(URL("https://a.example/")) == URL("http://tls.example:2")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_this_machine_is_connected_to_directly(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("all_proxy", "socks5://proxy.example:1080")

    assert proxy_for(URL(f"http://{host}:8000/")) is None


@asynccontextmanager
async def tls_proxy(context: ssl.SSLContext, target: str) -> AsyncIterator[tuple[str, list[str]]]:
    """Run a proxy that is spoken to with TLS, and relays all connections to the server `target`; list the requests."""
    heads: list[str] = []
    address = URL(target)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            writer.write(chunk)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head.split(b"\r\n")[0].decode())
        server_reader, server_writer = await asyncio.open_connection(address.host, address.port)
        if head.startswith(b"CONNECT"):
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            server_writer.write(head)
        await asyncio.gather(relay(reader, server_writer), relay(server_reader, writer), return_exceptions=True)

    listening = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield "https://127.0.0.1:{1}".format(*listening.sockets[0].getsockname()), heads


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_requests_go_through_a_proxy_that_speaks_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    ca, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1", "dispatcher.example").configure_cert(context)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    url = f"{scheme}://dispatcher.example"
    with http_server(lambda _: Page(b"a page"), context=context if scheme == "https" else None) as server:
        async with tls_proxy(context, server.url) as (proxy, heads):
            monkeypatch.setenv(f"{scheme}_proxy", proxy)
            async with Dispatcher(url) as dispatcher, AnyServer(use_env_proxies=True) as servers:
                for sending in (dispatcher.send(Request("GET", "/x")), servers.send(url, Request("GET", "/x"))):
                    assert b"".join([chunk async for chunk in (await sending).body]) == b"a page"
                assert not await servers.is_untrusted("https://dispatcher.example") or scheme == "http"

    assert set(heads) == {f"GET {url}/x HTTP/1.1" if scheme == "http" else "CONNECT dispatcher.example:443 HTTP/1.1"}


async def test_a_proxy_whose_certificate_is_not_trusted_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    async with tls_proxy(context, "http://127.0.0.1:1") as (proxy, heads):
        monkeypatch.setenv("https_proxy", proxy)
        async with Dispatcher("https://dispatcher.example") as dispatcher:
            with pytest.raises(UpstreamUnreachableError, match="certificate is not trusted"):
                await dispatcher.send(Request("GET", "/x"))
    assert heads == []
