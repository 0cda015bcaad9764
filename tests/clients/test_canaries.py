"""No secret of one client is on disk, in the log, or in a response to another client: with the real dispatcher."""

from __future__ import annotations

import base64
import json
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode

import pytest
import zstandard

from mock_server.tokens import make_token
from tests.support.secret_search import secrets_below, secrets_in
from tests.support.servers import DISPATCHER_SETTINGS, running

if TYPE_CHECKING:
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


def test_no_canary_is_stored_logged_or_sent_to_another_client(dispatcher_url: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    arguments = ("serve", "--upstream", dispatcher_url, "--port", "0", "--cache-dir", str(cache))
    stored = hits = 0
    others: list[bytes] = []
    with running(tmp_path / "log", *arguments) as proxy:
        for query in queries():
            client = {"query_status": "new", "api": "True", "off_line": "False", "oda_api_version": "1.3.5"}
            for token in ({}, {"token": TOKEN}):
                headers, body = get(proxy.url, **query, **client, session_id=CANARY, **token)
                stored += headers["Cache-Status"].endswith("stored")
                job = json.loads(body).get("job_monitor", {}).get("job_id", "")
                if json.loads(body)["query_status"] != "failed":
                    poll = {**client, "query_status": "ready"}
                    get(proxy.url, **query, **poll, session_id=CANARY, job_id=job, **token)
            headers, body = get(proxy.url, **query, **client, session_id=OTHER)
            hits += "hit" in headers["Cache-Status"]
            if "hit" in headers["Cache-Status"]:
                assert OTHER.encode() in body
                others.append(body)
        log = proxy.end()

    assert min(stored, hits) > 5
    assert secrets_below(cache, secrets()) == {}
    assert secrets_in(log.encode(), secrets()) == []
    assert secrets_in(b"".join(others), secrets()) == []
