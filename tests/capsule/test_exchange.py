"""Which plain exchanges are stored, and in which form."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.capsule.exchange import (
    Exchange,
    ExchangeError,
    body_file,
    check_answer,
    check_request,
    exchange_from_answer,
    from_json,
    identity_encoding,
    request_digest,
    to_json,
)
from oda_proxy.capsule.secrets import may_hold_secret
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.recordings.redaction import NotStorableError

SITES = "https://odahub.io/oda-sites.ttl"
TURTLE = (("Content-Type", "text/turtle"),)
BODY = b"@prefix oda: <http://odahub.io/ontology#> .\n"
JWT = jwt.encode({"sub": "mmoda@example.org"}, "a key of a dispatcher that is long enough for HS256", "HS256")


def exchange(**changed: Any) -> Exchange:
    document: dict[str, Any] = {
        "url": SITES,
        "request_headers": (),
        "status": 200,
        "headers": TURTLE,
        "body": BODY,
        "when": 1e9,
    }
    return exchange_from_answer(**{**document, **changed})


# -- what may be stored-----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        SITES,
        "http://cds.unistra.fr/cgi-bin/nph-sesame/-oI/A?Crab%20nebula",
        "https://www.astro.unige.ch/mmoda/resolver?name=Cyg+X-1&keyword=x",
        "https://raw.githubusercontent.com/oda-hub/oda_api/3adc14159265358979323846264338327950288f/setup.py",
        "https://example.org/@user/notebook",
    ],
)
def test_public_requests_can_be_stored(url: str) -> None:
    check_request("GET", url, (("Accept", "*/*"), ("User-Agent", "python-requests/2.34.2")))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
def test_only_get_and_head_are_stored(method: str) -> None:
    with pytest.raises(NotStorableError, match="method"):
        check_request(method, SITES, ())


@pytest.mark.parametrize("name", ["Authorization", "COOKIE", "proxy-authorization", "X-Api-Key"])
def test_no_request_with_credentials_is_stored(name: str) -> None:
    with pytest.raises(NotStorableError, match="credentials"):
        check_request("GET", SITES, ((name, "x"),))


@pytest.mark.parametrize(
    "rest",
    [
        "?token=1",
        "?a=1&access_token=1",
        "?a=1;JSESSIONID=1",
        "?X-Amz-Signature=1",
        "?apiKey=1",
        "?API_KEY=1",
        "?session_id=1",
        "?email=1",
        "?who=jane.doe%40example.org",
        "?who=jane.doe%2540example.org",
        "?%74oken=1",
        "?next=https%3A%2F%2Fexample.org%2F%3Ftoken%3D1",
        f"/{JWT}",
        "/ghp_0123456789abcdef0123456789abcdef0123",
    ],
)
def test_no_address_with_a_secret_or_a_person_in_it_is_stored(rest: str) -> None:
    assert may_hold_secret(f"https://example.org{rest}")
    with pytest.raises(NotStorableError, match="secret-in-address"):
        check_request("GET", f"https://example.org{rest}", ())


@pytest.mark.parametrize("rest", [f"%{'25' * 10}40", "x" * 10_000])
def test_an_address_that_is_too_long_to_search_is_not_stored(rest: str) -> None:
    with pytest.raises(NotStorableError, match="secret-in-address"):
        check_request("GET", f"https://example.org/{rest}", ())


def test_no_address_with_a_login_is_stored() -> None:
    assert may_hold_secret("https://jane:pw@example.org/")


def test_no_redirect_to_an_address_with_a_secret_is_stored() -> None:
    signed = "https://files.example.org/x?X-Amz-Signature=1"
    with pytest.raises(NotStorableError, match="secret-in-address"):
        check_answer(302, (("Location", signed),))
    check_answer(302, (("Location", "https://files.example.org/x"),))


@pytest.mark.parametrize("status", [201, 206, 304, 407, 408, 421, 425, 429, 500, 502, 503])
def test_neither_parts_nor_failures_of_the_moment_are_stored(status: int) -> None:
    with pytest.raises(NotStorableError, match="status"):
        check_answer(status, ())


@pytest.mark.parametrize("status", [200, 301, 303, 400, 401, 403, 404, 410, 451])
def test_final_answers_are_stored(status: int) -> None:
    check_answer(status, ())


def test_a_head_is_stored_with_the_length_of_the_body() -> None:
    one = exchange(method="HEAD", body=b"", headers=(*TURTLE, ("Content-Length", "44")))

    assert one.answer(CacheStatus(hit=True)).headers == (*TURTLE, ("Content-Length", "44"))
    assert one.matches("HEAD", SITES, ())
    assert not one.matches("GET", SITES, ())
    assert from_json(to_json(one), b"") == one


FORM = (("Content-Type", "application/x-www-form-urlencoded"),)


def test_a_post_is_stored_by_the_digest_of_its_body_where_that_is_allowed() -> None:
    with pytest.raises(NotStorableError, match="method"):
        check_request("POST", SITES, FORM)
    check_request("POST", SITES, FORM, post=True)

    one = exchange(method="POST", request_digest=request_digest(FORM, b"QUERY=SELECT"))

    assert one.matches("POST", SITES, FORM, b"QUERY=SELECT")
    assert not one.matches("POST", SITES, FORM, b"QUERY=ANOTHER")
    assert not one.matches("GET", SITES, ())
    assert from_json(to_json(one), BODY) == one
    assert b"SELECT" not in to_json(one)


def test_the_boundary_of_an_uploaded_form_does_not_count() -> None:
    def upload(boundary: str, content: str) -> str:
        headers = (("Content-Type", f"multipart/form-data; boundary={boundary}"),)
        return request_digest(headers, f"--{boundary}\r\n\r\n{content}\r\n--{boundary}--".encode())

    assert upload("0123456789abcdef", "x") == upload("fedcba9876543210", "x")
    assert upload("0123456789abcdef", "x") != upload("0123456789abcdef", "y")


@pytest.mark.parametrize(
    ("body", "content"), [(b"text", b"text\n"), (b"text\n", b"text\n"), (b"a\0", b"a\0"), (b"", b"")]
)
def test_the_file_of_a_text_ends_with_a_newline(body: bytes, content: bytes) -> None:
    one = exchange(body=body)

    assert body_file(one) == content
    assert from_json(to_json(one), content) == one


def test_a_document_of_format_1_is_read() -> None:
    document = {
        "format": 1,
        "url": SITES,
        "asked": [],
        "status": 200,
        "headers": [list(pair) for pair in TURTLE],
        "body": {"size": 44, "sha256": hashlib.sha256(BODY).hexdigest()},
        "when": "2001-09-09T01:46:40Z",
    }

    assert from_json(json.dumps(document).encode(), BODY) == exchange()


def test_names_tell_what_they_are() -> None:
    assert exchange().name.rpartition("-")[0] == "odahub.io_oda-sites.ttl"
    assert exchange(url="http://[::1]:80/?a=1").name.rpartition("-")[0] == "1"
    assert len(exchange(url=f"https://example.org/{'x' * 500}").name) <= 60 + 13
    assert exchange().name != exchange(occurrence=2).name != exchange(method="HEAD", body=b"").name


def test_an_answer_that_varies_by_anything_is_not_stored() -> None:
    with pytest.raises(NotStorableError, match="varies"):
        check_answer(200, (("Vary", "Accept, *"),))


def test_only_known_headers_of_the_answer_are_stored() -> None:
    headers = (*TURTLE, ("Set-Cookie", "a=1"), ("X-Request-Id", "17"), ("ETag", '"1"'), ("Connection", "close"))

    assert exchange(headers=headers).headers == (*TURTLE, ("ETag", '"1"'))


def test_a_body_is_requested_uncompressed() -> None:
    headers = identity_encoding((("accept-encoding", "gzip, br"), ("Accept", "text/turtle")))

    assert headers == (("Accept", "text/turtle"), ("Accept-Encoding", "identity"))


def test_the_encoding_of_a_body_that_is_compressed_nevertheless_is_stored() -> None:
    encoded = (*TURTLE, ("Content-Encoding", "gzip"))

    assert exchange(headers=encoded).answer(CacheStatus(hit=True)).headers == (
        *encoded,
        ("Content-Length", str(len(BODY))),
    )


# -- matching ---------------------------------------------------------------------------------------


def test_an_exchange_answers_equal_requests() -> None:
    one = exchange(request_headers=(("Accept", "*/*"), ("User-Agent", "one")))

    assert one.matches("GET", SITES, (("Accept", "text/html"),))
    assert one.matches("HEAD", SITES, ())
    assert one.matches("GET", SITES, (("Range", "bytes=0-1"), ("If-None-Match", '"1"')))
    assert not one.matches("POST", SITES, ())
    assert not one.matches("GET", f"{SITES}?x", ())


def test_an_answer_that_varies_matches_the_same_headers_only() -> None:
    varies = (*TURTLE, ("Vary", "Accept, Accept-Encoding"))
    one = exchange(headers=varies, request_headers=(("accept", "text/turtle"), ("User-Agent", "one")))
    other = exchange(headers=varies, request_headers=())

    assert one.matches("GET", SITES, (("ACCEPT", "text/turtle"), ("User-Agent", "other")))
    assert not one.matches("GET", SITES, (("Accept", "text/html"),))
    assert other.matches("GET", SITES, ())
    assert one.name != other.name
    assert one.name == exchange(headers=varies, request_headers=(("Accept", "text/turtle"),)).name


def test_a_program_gets_the_stored_answer() -> None:
    answer = exchange().answer(CacheStatus(hit=True))

    assert (answer.status, answer.headers, answer.body) == (200, (*TURTLE, ("Content-Length", "44")), (BODY,))


# -- JSON ------------------------------------------------------------------------------------------


def test_a_document_survives_the_round_trip() -> None:
    one = exchange(
        headers=(*TURTLE, ("Vary", "Accept"), ("ETag", '"\udce9"')), request_headers=(("Accept", "a"),), when=1.75e9
    )

    assert from_json(to_json(one), BODY) == one
    assert json.loads(to_json(one))["when"] == "2025-06-15T15:06:40Z"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 3}, "format 1"),
        ({"method": "PUT"}, "format 1"),
        ({"method": "POST"}, "format 1"),
        ({"request_digest": "0"}, "format 1"),
        ({"occurrence": 0}, "format 1"),
        ({"more": 1}, "format 1"),
        ({"body": {"size": 44, "sha256": "0" * 64}}, "not the one that was stored"),
        ({"body": {"size": 44, "sha256": "0" * 64, "more": 1}}, "format 1"),
        ({"when": "yesterday"}, "format 1"),
        ({"headers": [["Content-Type"]]}, "format 1"),
        ({"headers": [["ETag", "1\r\nSet-Cookie: a=1"]]}, "format 1"),
        ({"headers": [["Set-Cookie", "a=1"]]}, "never stored with these headers"),
        ({"asked": [["accept", "a"]]}, "never stored with these headers"),
        ({"asked": [["cookie", "a=1"]]}, "never stored .credentials"),
        ({"status": 206}, "never stored .status"),
        ({"status": "200"}, "format 1"),
        ({"url": f"{SITES}?token=1"}, "never stored .secret-in-address"),
        ({"url": "ftp://odahub.io/x"}, "never stored .address"),
        ({"url": f"{SITES}#x"}, "never stored .address"),
        ({"url": f"{SITES}\n"}, "never stored .address"),
    ],
)
def test_documents_that_would_never_be_stored_are_refused(change: dict[str, Any], reason: str) -> None:
    document = json.loads(to_json(exchange()))

    with pytest.raises(ExchangeError, match=reason):
        from_json(json.dumps({**document, **change}).encode(), BODY)


def test_another_body_is_not_read() -> None:
    with pytest.raises(ExchangeError, match="not the one that was stored"):
        from_json(to_json(exchange()), b"another")


def test_a_body_beyond_the_limit_is_not_read() -> None:
    with pytest.raises(ExchangeError, match=r"up to 10$"):
        from_json(to_json(exchange()), BODY, max_body=10)


def test_a_json_bomb_is_not_read() -> None:
    with pytest.raises(ExchangeError, match="format 1"):
        from_json(b"[" * 100_000, BODY)
    with pytest.raises(ExchangeError, match="bytes of JSON"):
        from_json(b" " * 2_000_000, BODY)


@given(st.binary(max_size=200))
def test_garbage_is_refused_with_our_error(text: bytes) -> None:
    with pytest.raises(ExchangeError):
        from_json(text, BODY)


VALUES = st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, min_size=1))


@given(VALUES)
def test_any_member_of_another_type_is_refused_with_our_error(value: Any) -> None:
    document = json.loads(to_json(exchange()))
    for name in document.keys() - {"occurrence"}:
        if type(value) is not type(document[name]):
            with pytest.raises(ExchangeError):
                from_json(json.dumps({**document, name: value}).encode(), BODY)
