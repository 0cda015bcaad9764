"""No secret of one client is stored, logged or sent to another one; with the real dispatcher, a Redis and a bucket."""

from __future__ import annotations

import base64
import codecs
import json
import socket
import threading
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode

import pytest
import redis
import zstandard

from mock_server.tokens import make_token
from tests.support.object_server import running_objects
from tests.support.redis_server import running_redis
from tests.support.secret_search import secrets_below, secrets_in
from tests.support.servers import DISPATCHER_SETTINGS, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

CANARY, OTHER = "CANARYSESSION000", "ANOTHERSESSION00"
EMAIL = "canary.owner@secret.example.org"
EXPIRES = 4102444800
"""2100-01-01."""
TOKEN = make_token(
    {"sub": EMAIL, "email": EMAIL, "name": "Canary Owner", "roles": "general", "exp": EXPIRES},
    DISPATCHER_SETTINGS["secret_key"],
)


def secrets() -> list[bytes]:
    """Return each secret in the encodings in which it may be written somewhere."""
    plain = [CANARY, EMAIL, "secret.example", *TOKEN.split(".")[1:], "Canary Owner"]
    spellings = [spelling for text in plain for spelling in (text, quote(text, safe=""), quote(quote(text, safe="")))]
    encoded = [base64.b64encode(f"{' ' * shift}{CANARY}".encode())[4:-4] for shift in range(3)]
    return [spelling.encode() for spelling in spellings] + encoded


def get(url: str, **parameters: str) -> tuple[dict[str, str], bytes]:
    try:
        with urllib.request.urlopen(f"{url}/run_analysis?{urlencode(parameters)}") as response:  # noqa: S310 - ours
            return dict(response.headers), response.read()
    except HTTPError as error:
        with error:
            return dict(error.headers), error.read()


def queries() -> list[dict[str, Any]]:
    """Return queries of each product of the dummy plugin, including some that fail."""
    products = [("empty", "dummy", "Dummy"), ("empty", "parametrical", "Dummy"), ("empty", "numerical", "Dummy")]
    products += [("empty", "failing", "Dummy"), ("empty", "dummy", "Real"), ("empty-async", "dummy", "Real")]
    # A job has one state for all clients: no other test may use these.
    mine = {"src_name": "a source of this test"}
    more = [mine, {**mine, "RA": "83.63", "DEC": "22.01"}, {**mine, "RA": "a"}, {**mine, "p": "55"}]
    more.append({"src_name": "the null source"})
    return [
        {"instrument": instrument, "product_type": product, "query_type": kind, **parameters}
        for instrument, product, kind in products
        for parameters in more
    ]


def test_a_secret_is_found_in_each_encoding() -> None:
    compressed = zstandard.ZstdCompressor().compress(b"x" * 99 + TOKEN.encode())

    assert secrets_in(b"row" + compressed, secrets())
    assert secrets_in(quote(EMAIL).encode(), secrets())
    assert secrets_in(base64.b64encode(b"for " + CANARY.encode() + b"."), secrets())
    assert not secrets_in(b"nothing", secrets())


@dataclass
class Seen:
    """What another client received, and how many answers were stored."""

    stored: int = 0
    others: list[bytes] = field(default_factory=list)

    def use(self, url: str, queries: list[dict[str, Any]], *, url_of_others: str = "") -> None:
        """Send queries as a client with secrets, and then as another one, perhaps to another server."""
        for query in queries:
            client = {"query_status": "new", "api": "True", "off_line": "False", "oda_api_version": "1.3.5"}
            for token in ({}, {"token": TOKEN}):
                headers, body = get(url, **query, **client, session_id=CANARY, **token)
                self.stored += headers["Cache-Status"].endswith("stored")
                job = json.loads(body).get("job_monitor", {}).get("job_id", "")
                if json.loads(body)["query_status"] != "failed":
                    poll = {**client, "query_status": "ready"}
                    get(url, **query, **poll, session_id=CANARY, job_id=job, **token)
            headers, body = get(url_of_others or url, **query, **client, session_id=OTHER)
            if "hit" in headers["Cache-Status"]:
                assert OTHER.encode() in body
                self.others.append(body)


def test_no_canary_is_stored_logged_or_sent_to_another_client(dispatcher_url: str, tmp_path: Path) -> None:
    cache, seen = tmp_path / "cache", Seen()
    arguments = ("serve", "--upstream", dispatcher_url, "--port", "0", "--cache-dir", str(cache))
    with running(tmp_path / "log", *arguments) as proxy:
        seen.use(proxy.url, queries())
        log = proxy.end()

    assert min(seen.stored, len(seen.others)) > 5
    assert secrets_below(cache, secrets()) == {}
    assert secrets_in(log.encode(), secrets()) == []
    assert secrets_in(b"".join(seen.others), secrets()) == []


@pytest.mark.slow
def test_no_canary_is_in_redis_its_files_its_commands_the_bucket_or_what_waits(
    dispatcher_url: str, tmp_path: Path
) -> None:
    seen, logs = Seen(), []
    with ExitStack() as stack:
        redis_server = stack.enter_context(running_redis(tmp_path / "redis", options={"rdbcompression": "no"}))
        objects = stack.enter_context(running_objects(tmp_path / "objects" / "served"))
        client = stack.enter_context(redis.Redis(port=redis_server.port))
        commands = stack.enter_context(_monitored(client))
        servers = []
        for name in ("one", "other"):
            options = (
                "serve",
                "--upstream",
                dispatcher_url,
                "--port",
                "0",
                "--cache-dir",
                str(tmp_path / "disk" / name),
            )
            store = ("--store", f"{redis_server.url}?{objects.parameters}")
            log, env = tmp_path / f"{name}.log", objects.environment
            servers.append(stack.enter_context(running(log, *options, *store, env=env)))
        one, other = servers
        seen.use(one.url, queries()[::3], url_of_others=other.url)
        seen.use(f"{one.url}/in/a-paper", queries()[1:3], url_of_others=f"{other.url}/in/a-paper")
        assert min(seen.stored, len(seen.others)) > 3
        values = list(_values(client))
        client.save()
        redis_server.kill()  # what comes now waits
        seen.use(one.url, [{**queries()[0], "src_name": "a source that waits"}])
        logs = [server.end() for server in servers]

    assert any(b"oda-proxy" in command for command in commands)
    assert any(b"evalsha" in command.lower() for command in commands)
    assert len(values) > 20
    assert any((tmp_path / "disk").rglob("waiting/**/*"))
    for folder in ("redis", "objects", "disk"):
        assert secrets_below(tmp_path / folder, secrets()) == {}
    for text in (*values, *commands, *seen.others, *(log.encode() for log in logs)):
        assert secrets_in(text, secrets()) == [], text[:1000]


def _values(client: Any) -> Iterator[bytes]:
    """Yield each key of a Redis, and what it has."""
    read: dict[bytes, Callable[[bytes], Any]] = {
        b"string": lambda key: [client.get(key)],
        b"hash": lambda key: [part for pair in client.hgetall(key).items() for part in pair],
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"list": lambda key: client.lrange(key, 0, -1),
        b"stream": lambda key: [part for _, fields in client.xrange(key) for pair in fields.items() for part in pair],
    }
    for key in client.scan_iter(count=1000):
        yield key
        yield b"\n".join(read[client.type(key)](key))


@contextmanager
def _monitored(client: Any) -> Iterator[list[bytes]]:
    """Yield the commands that a Redis receives, as they are after the connection has ended."""
    with socket.create_connection(("127.0.0.1", client.connection_pool.connection_kwargs["port"])) as connection:
        connection.sendall(b"MONITOR\r\n")
        lines: list[bytes] = []

        def receive() -> None:
            with connection.makefile("rb") as file:
                lines.extend(codecs.escape_decode(line)[0] for line in file)

        reader = threading.Thread(target=receive, daemon=True)
        reader.start()
        yield lines
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        reader.join()
