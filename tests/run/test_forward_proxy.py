"""Programs send their requests through the forward proxy; everything else is refused."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import ssl
import sys
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oda_proxy.errors import ListenError, NoRecordingError, UpstreamUnreachableError
from oda_proxy.http.answer import Answer
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.run.authority import Authority, temporary_authority
from oda_proxy.run.environment import proxy_environment
from oda_proxy.run.forward_proxy import forward_proxy
from oda_proxy.run.forwarded_request import ForwardedRequest, Origin
from tests.support.examples import examples

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


LONG = "x" * 200_000


@dataclass
class Program:
    """A handler that notes requests and echoes them."""

    requests: list[ForwardedRequest] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    error: Exception | None = None
    held: asyncio.Event | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, requests: ForwardedRequest) -> Answer:
        self.requests.append(requests)
        self.reached.set()
        if self.held is not None:
            await self.held.wait()
        if self.error is not None:
            raise self.error
        body = requests.request.body
        if body is not None:
            self.bodies.append(body if isinstance(body, bytes) else b"".join([piece async for piece in body]))
        text = f"{requests.request.method} {requests.url}\n".encode("utf-8", "surrogateescape")
        return Answer(200, (("Content-Length", str(len(text))),), (text,), CacheStatus())

    @property
    def urls(self) -> list[str]:
        return [requests.url for requests in self.requests]


@dataclass(frozen=True)
class RunningProxy:
    url: str
    authority: Authority
    program: Program

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.authority.bundle)

    async def exchange(self, *chunks: bytes, ended: bool = False) -> bytes:
        """Send chunks on a new connection, and return all that comes back until it is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        with closing(writer):
            for piece in chunks:
                writer.write(piece)
                await writer.drain()
            if ended:
                writer.write_eof()
            return await rest(reader)


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Read until a connection is closed; nothing from one that is reset."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with temporary_authority() as authority:
        yield authority


@asynccontextmanager
async def running_proxy(authority: Authority, **options: Any) -> AsyncIterator[RunningProxy]:
    program = Program()
    async with forward_proxy(program.answer, authority, shutdown_timeout=0.02, **options) as url:
        yield RunningProxy(url, authority, program)


@pytest.fixture
async def proxy(authority: Authority) -> AsyncIterator[RunningProxy]:
    async with running_proxy(authority) as proxy:
        yield proxy


@asynccontextmanager
async def tunnel(
    proxy: RunningProxy, address: str = "example.org:443", name: str | None = "example.org"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to an address through the proxy with TLS; without a name none is sent or checked."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    with closing(writer):
        writer.write(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
        context = proxy.trusting
        context.check_hostname = name is not None
        await writer.start_tls(context, server_hostname=name)
        yield reader, writer


async def run(*command: str | Path, env: dict[str, str | None]) -> str:
    """Run a program with these changes to the environment, and return its output."""
    whole = {**os.environ, **env}
    process = await asyncio.create_subprocess_exec(
        *command,
        env={name: value for name, value in whole.items() if value is not None},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    response, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return response.decode()


# -- real programs ---------------------------------------------------------------------------------

ADDRESSES = (
    "https://www.astro.unige.ch/cdci/astrooda/dispatch-data/run_analysis?T1=2003-03-15T23%3A27&x=%2C+%00",
    "https://[2001:db8::17]:8443/x",
    "https://10.1.2.3/x",
    "http://odahub.io/oda-sites.ttl",
    "http://127.0.0.1:1/x",
)
URLLIB = """
import sys, urllib.request
for url in sys.argv[1:]:
    print(urllib.request.urlopen(url).read().decode(), end="")
"""
REQUESTS = """
import sys, requests
session = requests.Session()
for url in sys.argv[1:]:
    print(session.get(url).text, end="")
"""
AIOHTTP = """
import asyncio, sys, aiohttp
from yarl import URL
async def main():
    async with aiohttp.ClientSession(trust_env=True) as session:
        for url in sys.argv[1:]:
            async with session.get(URL(url, encoded=True)) as response:
                print(await response.text(), end="")
asyncio.run(main())
"""


async def see(proxy: RunningProxy, *command: str | Path) -> None:
    response = await run(
        *command, *ADDRESSES, env=proxy_environment(proxy.url, proxy.authority.bundle, Path(os.devnull))
    )

    assert response == "".join(f"GET {url}\n" for url in ADDRESSES)
    assert proxy.program.urls == list(ADDRESSES)


@pytest.mark.parametrize("script", [URLLIB, AIOHTTP], ids=["urllib", "aiohttp"])
async def test_a_program_needs_only_its_environment(proxy: RunningProxy, script: str) -> None:
    await see(proxy, sys.executable, "-c", script)


@pytest.mark.real
@pytest.mark.parametrize("version", ["1.3.5", "1.0"])
async def test_requests_beside_a_client_needs_only_its_environment(
    proxy: RunningProxy, client_python: Callable[[str], Path], version: str
) -> None:
    await see(proxy, client_python(version), "-c", REQUESTS)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_curl_needs_only_its_environment(proxy: RunningProxy) -> None:
    await see(proxy, "curl", "--silent", "--show-error", "--globoff")


# -- what is requests ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("http://example.org", "http://example.org/"),
        ("http://example.org?a=b", "http://example.org/?a=b"),
        ("HTTP://EXAMPLE.org:80/A", "http://example.org/A"),
        ("http://example.org:8080//a%2Fb/./%7e?x=%41+b&&y", "http://example.org:8080//a%2Fb/./%7e?x=%41+b&&y"),
        ("http://[::1]:8080/a", "http://[::1]:8080/a"),
        ("https://example.org/a", "https://example.org/a"),
        ("http://example.org:443/a", "http://example.org:443/a"),
    ],
)
async def test_a_url_is_passed_to_the_handler_as_it_was_sent(proxy: RunningProxy, target: str, url: str) -> None:
    response = await proxy.exchange(
        f"GET {target} HTTP/1.1\r\nHost: other.example.org\r\nConnection: close\r\n\r\n".encode()
    )

    assert response.startswith(b"HTTP/1.1 200 ")
    assert proxy.program.urls == [url]


async def test_headers_and_method_are_passed_to_the_handler_as_they_were_sent(proxy: RunningProxy) -> None:
    await proxy.exchange(
        b"DELETE http://example.org/ HTTP/1.1\r\nHost: example.org\r\nX-One: 1\r\nX-One: 2\r\nConnection: close\r\n\r\n"
    )

    (forwarded,) = proxy.program.requests
    assert forwarded.request.method == "DELETE"
    assert forwarded.request.headers == (
        ("Host", "example.org"),
        ("X-One", "1"),
        ("X-One", "2"),
        ("Connection", "close"),
    )


async def test_a_client_may_send_no_server_name(proxy: RunningProxy) -> None:
    async with tunnel(proxy, "example.org:8443", None) as (reader, writer):
        writer.write(b"GET /a?b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"GET https://example.org:8443/a?b\n")

    assert proxy.program.requests[0].origin == Origin("https", "example.org", 8443)


async def test_a_client_may_begin_tls_before_the_response_to_connect(proxy: RunningProxy) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = proxy.trusting.wrap_bio(incoming, outgoing, server_hostname="example.org")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    with closing(writer):
        writer.write(b"CONNECT example.org:443 HTTP/1.1\r\n\r\n" + outgoing.read())
        await reader.readuntil(b"\r\n\r\n")
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                incoming.write(await reader.read(65536))
        client.write(b"GET /early HTTP/1.1\r\nHost: x\r\n\r\n")
        writer.write(outgoing.read())
        await proxy.program.reached.wait()

    assert proxy.program.urls == ["https://example.org/early"]


async def test_a_tunnel_may_hold_plain_http(proxy: RunningProxy) -> None:
    response = await proxy.exchange(
        b"CONNECT example.org:80 HTTP/1.1\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )

    assert response.endswith(b"GET http://example.org/a\n")


async def test_a_connect_request_may_come_byte_by_byte(proxy: RunningProxy) -> None:
    request = (
        b"CONNECT example.org:80 HTTP/1.1\r\nHost: x\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )

    assert (await proxy.exchange(*(request[at : at + 1] for at in range(len(request))))).endswith(b"org/a\n")


async def test_one_connection_serves_many_requests(proxy: RunningProxy) -> None:
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector) as session:
        for number in range(20):
            url = f"https://example.org/{number}"
            async with session.get(url, proxy=proxy.url, ssl=proxy.trusting) as response:
                assert await response.text() == f"GET {url}\n"


async def test_pipelined_requests_are_answered_in_order(proxy: RunningProxy) -> None:
    async with tunnel(proxy) as (reader, writer):
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(50)))
        for number in range(50):
            await reader.readuntil(b"GET https://example.org/%d\n" % number)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_long_address_goes_through(proxy: RunningProxy, scheme: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{scheme}://example.org/?{LONG}", proxy=proxy.url, ssl=proxy.trusting) as response,
    ):
        assert response.status == 200
    assert proxy.program.requests[0].request.query_string == LONG


async def test_a_form_is_read_whole(proxy: RunningProxy) -> None:
    form, headers = f"a={LONG * 10}".encode(), {"Content-Type": "application/x-www-form-urlencoded"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post("https://example.org/", data=BytesIO(form), proxy=proxy.url, ssl=proxy.trusting) as response,
    ):
        assert response.status == 200
    assert proxy.program.requests[0].request.body == form


async def test_an_upload_in_chunks_goes_through(proxy: RunningProxy) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 10_000

    async with (
        aiohttp.ClientSession() as session,
        session.put("https://example.org/", data=pieces(), proxy=proxy.url, ssl=proxy.trusting) as response,
    ):
        assert response.status == 200
    assert proxy.program.bodies == [b"x" * 1_000_000]


async def test_a_compressed_upload_stays_as_it_is(proxy: RunningProxy) -> None:
    head = b"POST http://example.org/ HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 7\r\n"
    await proxy.exchange(head + b"Connection: close\r\n\r\nno gzip")

    assert proxy.program.bodies == [b"no gzip"]


async def test_a_client_that_expects_100_continue_gets_it(proxy: RunningProxy) -> None:
    async with tunnel(proxy) as (reader, writer):
        writer.write(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"body")
        await reader.readuntil(b"POST https://example.org/a\n")

    assert proxy.program.bodies == [b"body"]


async def test_a_head_has_no_body(proxy: RunningProxy) -> None:
    response = await proxy.exchange(b"HEAD http://example.org/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert response.endswith(b"\r\n\r\n")


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UpstreamUnreachableError("https://example.org", "no route"), 502),
        (NoRecordingError("nothing was recorded"), 404),
    ],
)
async def test_an_error_of_the_handler_is_sent_in_one_line(proxy: RunningProxy, error: Exception, status: int) -> None:
    proxy.program.error = error
    async with tunnel(proxy) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")

    assert (head.split()[1], body) == (b"%d" % status, f"{error}\n".encode())


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/", "it has no pages"),
        ("/-/status", "it has no pages"),
        ("ftp://example.org/x", "only http:// and https://"),
        ("http://jane:pw@example.org/", "not the address of a server"),
        ("http://example.org:0/", "not the address of a server"),
    ],
)
async def test_a_request_without_a_target_is_refused(proxy: RunningProxy, target: str, reason: str) -> None:
    response = await proxy.exchange(f"GET {target} HTTP/1.1\r\nHost: example.org\r\n\r\n".encode())
    head, _, body = response.partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 400 ")
    assert reason in body.decode()
    assert body.count(b"\n") == 1
    assert proxy.program.requests == []


async def test_a_tunnel_is_for_one_server(proxy: RunningProxy) -> None:
    async with tunnel(proxy) as (reader, writer):
        writer.write(b"GET https://example.org/a HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"GET https://example.org/a\n")
        writer.write(b"GET https://www.example.org/a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 421 ")


async def test_websockets_are_refused(proxy: RunningProxy) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n"
    response = await proxy.exchange(b"GET http://example.org/ HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")

    assert response.startswith(b"HTTP/1.1 501 ")
    assert response.endswith(b"websockets are not forwarded: connect without this proxy\n")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("CONNECT example.org HTTP/1.1", 400),
        ("CONNECT example.org: HTTP/1.1", 400),
        ("CONNECT example.org:0 HTTP/1.1", 400),
        ("CONNECT example.org:99999 HTTP/1.1", 400),
        ("CONNECT http://example.org/ HTTP/1.1", 400),
        ("CONNECT jane@example.org:443 HTTP/1.1", 400),
        ("CONNECT under_score.example.org:443 HTTP/1.1", 400),
        ("CONNECT a..b:443 HTTP/1.1", 400),
        ("CONNECT [:::1]:443 HTTP/1.1", 400),
        ("CONNECT example.org:443 HTTP/2", 400),
        ("CONNECT example.org:443", 400),
        ("CONNECT  example.org:443 HTTP/1.1", 400),
        (f"CONNECT {LONG}:443 HTTP/1.1", 431),
    ],
)
async def test_an_invalid_connect_request_is_refused(proxy: RunningProxy, request_line: str, status: int) -> None:
    response = await proxy.exchange(f"{request_line}\r\nHost: x\r\n\r\nand more".encode())
    head, _, body = response.partition(b"\r\n\r\n")

    assert head.split()[1] == b"%d" % status
    assert body.count(b"\n") == 1
    assert proxy.program.requests == []


async def test_a_silent_client_is_disconnected(proxy: RunningProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oda_proxy.run.forward_proxy.CONNECT_TIMEOUT", 0.01)
    for said in (b"", b"CONN", b"CONNECT example.org:443 HTTP/1.1\r\n", b"CONNECT example.org:443 HTTP/1.1\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with closing(writer):
            writer.write(said)
            assert await rest(reader) in {b"", b"HTTP/1.1 200 Connection established\r\n\r\n"}


async def test_a_silent_client_within_tls_is_disconnected(proxy: RunningProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oda_proxy.run.forward_proxy.IDLE_TIMEOUT", 0.01)
    async with tunnel(proxy) as (reader, _):
        assert await reader.read() == b""


async def test_a_client_that_does_not_trust_the_authority_is_logged(
    proxy: RunningProxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get("https://example.org/", proxy=proxy.url, ssl=ssl.create_default_context())
        async with session.get("https://example.org/", proxy=proxy.url, ssl=proxy.trusting) as response:
            assert response.status == 200

    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "no TLS with a program for https://example.org (it hung up): it may not read SSL_CERT_FILE"
    ]


@pytest.mark.parametrize(
    "said",
    [
        b"GET http://example.org:99999/?token=secret HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"POST http://example.org/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    ],
)
async def test_a_faulty_program_does_not_affect_others(
    proxy: RunningProxy, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await proxy.exchange(said)).startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))

    assert "secret" not in caplog.text
    assert "Traceback" not in caplog.text


GARBAGE = st.builds(
    lambda start, rest: start + rest,
    st.sampled_from(
        [
            b"",
            b"C",
            b"CONNECT ",
            b"CONNECT example.org:443 HTTP/1.1\r\n\r\n",
            b"CONNECT example.org:443 HTTP/1.1\r\n\r\n\x16\x03\x01",
            b"CONNECT example.org:80 HTTP/1.1\r\n\r\n",
            b"GET http://",
            b"GET http://example.org/ HTTP/1.1\r\nHost: x\r\n",
            b"\x16\x03\x01",
        ]
    ),
    st.binary(max_size=200),
)


@settings(max_examples=examples(50), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(GARBAGE, min_size=1, max_size=4))
def test_garbage_does_not_affect_other_connections(authority: Authority, garbage: list[bytes]) -> None:
    async def main() -> None:
        async with running_proxy(authority) as proxy:
            for said in garbage:
                await proxy.exchange(said, ended=True)
            response = await proxy.exchange(b"GET http://example.org/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert response.endswith(b"GET http://example.org/\n")

    asyncio.run(main())


# -- servers on this machine -----------------------------------------------------------------------


@asynccontextmanager
async def local_server(ca: trustme.CA) -> AsyncIterator[int]:
    """Run a TLS server with its own certificate that echoes one line."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            writer.write(b"heard " + await reader.readline())
            await writer.drain()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def test_a_local_server_is_relayed_unchanged(authority: Authority) -> None:
    seen = []

    def is_passed_through(host: str, port: int) -> bool:
        seen.append((host, port))
        return True

    ca = trustme.CA()
    async with local_server(ca) as port, running_proxy(authority, is_passed_through=is_passed_through) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with closing(writer):
            writer.write(f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            context = ssl.create_default_context()
            ca.configure_trust(context)
            await writer.start_tls(context, server_hostname="localhost")
            writer.write(b"hello\n")
            assert await reader.read() == b"heard hello\n"

    assert seen == [("localhost", port)]
    assert proxy.program.requests == []


async def test_a_local_server_that_is_not_passed_through_is_requested_by_the_handler(proxy: RunningProxy) -> None:
    async with tunnel(proxy, "localhost:8443", "localhost") as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await reader.read()

    assert proxy.program.urls == ["https://localhost:8443/"]


@pytest.mark.parametrize("host", ["example.org", "10.1.2.3", "[2001:db8::17]", "localhost.example.org"])
async def test_no_other_server_is_relayed_to(authority: Authority, host: str) -> None:
    seen = []

    def is_passed_through(host: str, port: int) -> bool:
        seen.append((host, port))
        return True

    async with running_proxy(authority, is_passed_through=is_passed_through) as proxy:
        request = f"CONNECT {host}:80 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        response = await proxy.exchange(request.encode())

    assert response.endswith(f"GET http://{host}/\n".encode())
    assert seen == []


async def test_a_local_server_that_does_not_listen_is_reported(authority: Authority) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with running_proxy(authority, is_passed_through=lambda *_: True) as proxy:
            response = await proxy.exchange(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())

    assert response.startswith(b"HTTP/1.1 502 ")
    assert response.endswith(f"no server listens on port {port} of this machine\n".encode())


# -- its own life ----------------------------------------------------------------------------------


async def echoing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with closing(writer):
        while piece := await reader.read(1000):
            writer.write(piece)


async def test_the_end_closes_every_connection(authority: Authority) -> None:
    async with AsyncExitStack() as stack:
        async with running_proxy(authority, is_passed_through=lambda host, _: host == "127.0.0.1") as proxy:
            proxy.program.held = asyncio.Event()
            echo = await stack.enter_async_context(await asyncio.start_server(echoing, "127.0.0.1", 0))
            readers = []
            for said in (
                b"",
                b"CONNECT exam",
                b"CONNECT example.org:443 HTTP/1.1\r\n\r\n",
                b"CONNECT example.org:80 HTTP/1.1\r\n\r\nGET ",
                b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n" % echo.sockets[0].getsockname()[1],
                b"GET http://example.org/ HTTP/1.1\r\nHost: x\r\n\r\n",
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
                stack.callback(writer.close)
                writer.write(said)
                readers.append(reader)
            idle, _ = await stack.enter_async_context(tunnel(proxy))
            await proxy.program.reached.wait()

        for reader in (*readers, idle):
            assert await rest(reader) in {b"", b"HTTP/1.1 200 Connection established\r\n\r\n"}
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)


async def test_an_address_in_use_is_reported(proxy: RunningProxy) -> None:
    with pytest.raises(ListenError, match="the port is in use"):
        async with forward_proxy(proxy.program.answer, proxy.authority, port=proxy.port):
            pass


async def test_no_query_is_logged(proxy: RunningProxy, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "oda_proxy")
    await proxy.exchange(b"GET http://example.org/path?token=secret HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert "GET http://example.org/path 200 oda-proxy" in caplog.text
    assert "secret" not in caplog.text


def test_the_environment_has_no_other_way_than_the_proxy(authority: Authority) -> None:
    response = proxy_environment("http://127.0.0.1:8080", authority.bundle, Path(os.devnull))

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        assert response[name] == "http://127.0.0.1:8080"
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
        assert response[name] == str(authority.bundle)
    for name in ("ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_DIR"):
        assert response[name] is None
