"""The forward proxy's listener: what programs ask through it, and what it makes of everything else."""

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
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oda_proxy.errors import ListenError, NoRecordingError, UpstreamUnreachableError
from oda_proxy.http.answer import Answer
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.run.authority import Authority, certifying
from oda_proxy.run.forward_proxy import ForwardedRequest, Origin, environment, forwarding, is_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

LONG = "x" * 200_000


@dataclass
class Program:
    """What a program asked, and what it is told."""

    asked: list[ForwardedRequest] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    error: Exception | None = None
    held: asyncio.Event | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, asked: ForwardedRequest) -> Answer:
        self.asked.append(asked)
        self.reached.set()
        if self.held is not None:
            await self.held.wait()
        if self.error is not None:
            raise self.error
        body = asked.request.body
        if body is not None:
            self.bodies.append(body if isinstance(body, bytes) else b"".join([piece async for piece in body]))
        text = f"{asked.request.method} {asked.url}\n".encode("utf-8", "surrogateescape")
        return Answer(200, (("Content-Length", str(len(text))),), (text,), CacheStatus())

    @property
    def urls(self) -> list[str]:
        return [asked.url for asked in self.asked]


@dataclass(frozen=True)
class House:
    url: str
    authority: Authority
    program: Program

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.authority.bundle)

    async def told(self, *said: bytes, ended: bool = False) -> bytes:
        """Say something, piece by piece, on a connection of its own, and give all that comes back until it ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        with closing(writer):
            for piece in said:
                writer.write(piece)
                await writer.drain()
            if ended:
                writer.write_eof()
            return await rest(reader)


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Read until a connection ends; one that is reset says nothing."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with certifying() as authority:
        yield authority


@asynccontextmanager
async def housed(authority: Authority, **options: Any) -> AsyncIterator[House]:
    program = Program()
    async with forwarding(program.answer, authority, shutdown_timeout=0.02, **options) as url:
        yield House(url, authority, program)


@pytest.fixture
async def house(authority: Authority) -> AsyncIterator[House]:
    async with housed(authority) as house:
        yield house


@asynccontextmanager
async def tunnel(
    house: House, address: str = "example.org:443", name: str | None = "example.org"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to an address through the proxy, and agree on TLS there; without a name none is told or checked."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    with closing(writer):
        writer.write(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
        context = house.trusting
        context.check_hostname = name is not None
        await writer.start_tls(context, server_hostname=name)
        yield reader, writer


async def run(*command: str | Path, env: dict[str, str | None]) -> str:
    """Run a program with these changes to the environment, and give what it prints."""
    whole = {**os.environ, **env}
    process = await asyncio.create_subprocess_exec(
        *command,
        env={name: value for name, value in whole.items() if value is not None},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    told, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return told.decode()


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


async def see(house: House, *command: str | Path) -> None:
    told = await run(*command, *ADDRESSES, env=environment(house.url, house.authority.bundle))

    assert told == "".join(f"GET {url}\n" for url in ADDRESSES)
    assert house.program.urls == list(ADDRESSES)


@pytest.mark.parametrize("script", [URLLIB, AIOHTTP], ids=["urllib", "aiohttp"])
async def test_a_program_needs_only_its_environment(house: House, script: str) -> None:
    await see(house, sys.executable, "-c", script)


@pytest.mark.real
@pytest.mark.parametrize("version", ["1.3.5", "1.0"])
async def test_requests_beside_a_client_needs_only_its_environment(
    house: House, client_python: Callable[[str], Path], version: str
) -> None:
    await see(house, client_python(version), "-c", REQUESTS)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_curl_needs_only_its_environment(house: House) -> None:
    await see(house, "curl", "--silent", "--show-error", "--globoff")


# -- what is asked ---------------------------------------------------------------------------------


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
async def test_an_address_is_given_as_it_was_sent(house: House, target: str, url: str) -> None:
    told = await house.told(f"GET {target} HTTP/1.1\r\nHost: other.example.org\r\nConnection: close\r\n\r\n".encode())

    assert told.startswith(b"HTTP/1.1 200 ")
    assert house.program.urls == [url]


async def test_headers_and_method_are_given_as_they_were_sent(house: House) -> None:
    await house.told(
        b"DELETE http://example.org/ HTTP/1.1\r\nHost: example.org\r\nX-One: 1\r\nX-One: 2\r\nConnection: close\r\n\r\n"
    )

    (asked,) = house.program.asked
    assert asked.request.method == "DELETE"
    assert asked.request.headers == (("Host", "example.org"), ("X-One", "1"), ("X-One", "2"), ("Connection", "close"))


async def test_a_client_may_tell_no_name_for_tls(house: House) -> None:
    async with tunnel(house, "example.org:8443", None) as (reader, writer):
        writer.write(b"GET /a?b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"GET https://example.org:8443/a?b\n")

    assert house.program.asked[0].origin == Origin("https", "example.org", 8443)


async def test_a_client_may_begin_tls_before_it_is_told_to(house: House) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = house.trusting.wrap_bio(incoming, outgoing, server_hostname="example.org")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
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
        await house.program.reached.wait()

    assert house.program.urls == ["https://example.org/early"]


async def test_a_tunnel_may_hold_plain_http(house: House) -> None:
    told = await house.told(
        b"CONNECT example.org:80 HTTP/1.1\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )

    assert told.endswith(b"GET http://example.org/a\n")


async def test_a_connect_request_may_come_byte_by_byte(house: House) -> None:
    request = (
        b"CONNECT example.org:80 HTTP/1.1\r\nHost: x\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )

    assert (await house.told(*(request[at : at + 1] for at in range(len(request))))).endswith(b"org/a\n")


async def test_one_connection_serves_many_requests(house: House) -> None:
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector) as session:
        for number in range(20):
            url = f"https://example.org/{number}"
            async with session.get(url, proxy=house.url, ssl=house.trusting) as response:
                assert await response.text() == f"GET {url}\n"


async def test_requests_that_come_at_once_are_answered_in_order(house: House) -> None:
    async with tunnel(house) as (reader, writer):
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(50)))
        for number in range(50):
            await reader.readuntil(b"GET https://example.org/%d\n" % number)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_long_address_goes_through(house: House, scheme: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{scheme}://example.org/?{LONG}", proxy=house.url, ssl=house.trusting) as response,
    ):
        assert response.status == 200
    assert house.program.asked[0].request.query_string == LONG


async def test_a_form_is_read_whole(house: House) -> None:
    form, headers = f"a={LONG * 10}".encode(), {"Content-Type": "application/x-www-form-urlencoded"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post("https://example.org/", data=BytesIO(form), proxy=house.url, ssl=house.trusting) as response,
    ):
        assert response.status == 200
    assert house.program.asked[0].request.body == form


async def test_an_upload_in_chunks_goes_through(house: House) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 10_000

    async with (
        aiohttp.ClientSession() as session,
        session.put("https://example.org/", data=pieces(), proxy=house.url, ssl=house.trusting) as response,
    ):
        assert response.status == 200
    assert house.program.bodies == [b"x" * 1_000_000]


async def test_a_compressed_upload_stays_as_it_is(house: House) -> None:
    head = b"POST http://example.org/ HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 7\r\n"
    await house.told(head + b"Connection: close\r\n\r\nno gzip")

    assert house.program.bodies == [b"no gzip"]


async def test_a_client_that_waits_for_a_go_ahead_has_it(house: House) -> None:
    async with tunnel(house) as (reader, writer):
        writer.write(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"body")
        await reader.readuntil(b"POST https://example.org/a\n")

    assert house.program.bodies == [b"body"]


async def test_a_head_has_no_body(house: House) -> None:
    told = await house.told(b"HEAD http://example.org/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert told.endswith(b"\r\n\r\n")


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UpstreamUnreachableError("https://example.org", "no route"), 502),
        (NoRecordingError("nothing was recorded"), 404),
    ],
)
async def test_an_error_of_the_handler_is_told_in_one_line(house: House, error: Exception, status: int) -> None:
    house.program.error = error
    async with tunnel(house) as (reader, writer):
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
async def test_what_leads_nowhere_is_refused(house: House, target: str, reason: str) -> None:
    told = await house.told(f"GET {target} HTTP/1.1\r\nHost: example.org\r\n\r\n".encode())
    head, _, body = told.partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 400 ")
    assert reason in body.decode()
    assert body.count(b"\n") == 1
    assert house.program.asked == []


async def test_a_tunnel_leads_to_one_server(house: House) -> None:
    async with tunnel(house) as (reader, writer):
        writer.write(b"GET https://example.org/a HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"GET https://example.org/a\n")
        writer.write(b"GET https://www.example.org/a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 421 ")


async def test_websockets_are_refused(house: House) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n"
    told = await house.told(b"GET http://example.org/ HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")

    assert told.startswith(b"HTTP/1.1 501 ")
    assert told.endswith(b"websockets are not forwarded: connect without this proxy\n")


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
async def test_a_connect_request_that_leads_nowhere_is_refused(house: House, request_line: str, status: int) -> None:
    told = await house.told(f"{request_line}\r\nHost: x\r\n\r\nand more".encode())
    head, _, body = told.partition(b"\r\n\r\n")

    assert head.split()[1] == b"%d" % status
    assert body.count(b"\n") == 1
    assert house.program.asked == []


async def test_a_client_that_says_nothing_is_let_go(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oda_proxy.run.forward_proxy.CONNECT_PATIENCE", 0.01)
    for said in (b"", b"CONN", b"CONNECT example.org:443 HTTP/1.1\r\n", b"CONNECT example.org:443 HTTP/1.1\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        with closing(writer):
            writer.write(said)
            assert await rest(reader) in {b"", b"HTTP/1.1 200 Connection established\r\n\r\n"}


async def test_a_client_that_says_nothing_within_tls_is_let_go(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oda_proxy.run.forward_proxy.IDLE", 0.01)
    async with tunnel(house) as (reader, _):
        assert await reader.read() == b""


async def test_a_client_that_distrusts_us_is_named(house: House, caplog: pytest.LogCaptureFixture) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get("https://example.org/", proxy=house.url, ssl=ssl.create_default_context())
        async with session.get("https://example.org/", proxy=house.url, ssl=house.trusting) as response:
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
async def test_the_mistakes_of_a_program_are_its_own(
    house: House, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await house.told(said)).startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))

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


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(GARBAGE, min_size=1, max_size=4))
def test_garbage_harms_nobody_else(authority: Authority, garbage: list[bytes]) -> None:
    async def main() -> None:
        async with housed(authority) as house:
            for said in garbage:
                await house.told(said, ended=True)
            told = await house.told(b"GET http://example.org/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert told.endswith(b"GET http://example.org/\n")

    asyncio.run(main())


# -- servers on this machine -----------------------------------------------------------------------


@asynccontextmanager
async def local_server(ca: trustme.CA) -> AsyncIterator[int]:
    """Run a server with a certificate of its own: it sends a line back, and says goodbye when it has heard one."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            writer.write(b"heard " + await reader.readline())
            await writer.drain()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def test_a_local_server_is_passed_through_untouched(authority: Authority) -> None:
    seen = []

    def is_passed_through(host: str, port: int) -> bool:
        seen.append((host, port))
        return True

    ca = trustme.CA()
    async with local_server(ca) as port, housed(authority, is_passed_through=is_passed_through) as house:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        with closing(writer):
            writer.write(f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            context = ssl.create_default_context()
            ca.configure_trust(context)
            await writer.start_tls(context, server_hostname="localhost")
            writer.write(b"hello\n")
            assert await reader.read() == b"heard hello\n"

    assert seen == [("localhost", port)]
    assert house.program.asked == []


async def test_a_local_server_that_is_not_passed_through_is_asked_by_the_handler(house: House) -> None:
    async with tunnel(house, "localhost:8443", "localhost") as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await reader.read()

    assert house.program.urls == ["https://localhost:8443/"]


@pytest.mark.parametrize("host", ["example.org", "10.1.2.3", "[2001:db8::17]", "localhost.example.org"])
async def test_no_other_server_is_ever_passed_through(authority: Authority, host: str) -> None:
    seen = []

    def is_passed_through(host: str, port: int) -> bool:
        seen.append((host, port))
        return True

    async with housed(authority, is_passed_through=is_passed_through) as house:
        request = f"CONNECT {host}:80 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        told = await house.told(request.encode())

    assert told.endswith(f"GET http://{host}/\n".encode())
    assert seen == []


async def test_a_local_server_that_is_not_there_is_named(authority: Authority) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        async with housed(authority, is_passed_through=lambda *_: True) as house:
            told = await house.told(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())

    assert told.startswith(b"HTTP/1.1 502 ")
    assert told.endswith(f"nobody listens on port {port} of this machine\n".encode())


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("dispatcher.localhost", True),
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost.example.org", False),
        ("0.0.0.0", False),  # noqa: S104 - nothing listens there
        ("127.1", False),
        ("10.0.0.1", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_this_machine_is_known_by_its_names(host: str, here: bool) -> None:
    assert is_loopback(host) is here


# -- its own life ----------------------------------------------------------------------------------


async def echoing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with closing(writer):
        while piece := await reader.read(1000):
            writer.write(piece)


async def test_the_end_ends_every_connection(authority: Authority) -> None:
    async with AsyncExitStack() as stack:
        async with housed(authority, is_passed_through=lambda host, _: host == "127.0.0.1") as house:
            house.program.held = asyncio.Event()
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
                reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
                stack.callback(writer.close)
                writer.write(said)
                readers.append(reader)
            idle, _ = await stack.enter_async_context(tunnel(house))
            await house.program.reached.wait()

        for reader in (*readers, idle):
            assert await rest(reader) in {b"", b"HTTP/1.1 200 Connection established\r\n\r\n"}
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", house.port)


async def test_an_address_in_use_is_named(house: House) -> None:
    with pytest.raises(ListenError, match="the port is in use"):
        async with forwarding(house.program.answer, house.authority, port=house.port):
            pass


async def test_no_query_is_logged(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "oda_proxy")
    await house.told(b"GET http://example.org/path?token=secret HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert "GET http://example.org/path 200 oda-proxy" in caplog.text
    assert "secret" not in caplog.text


def test_the_environment_leads_through_the_proxy_alone(authority: Authority) -> None:
    told = environment("http://127.0.0.1:8080", authority.bundle)

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        assert told[name] == "http://127.0.0.1:8080"
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
        assert told[name] == str(authority.bundle)
    for name in ("ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_DIR"):
        assert told[name] is None
