"""Which responses are stored for other clients, and with which headers."""

from __future__ import annotations

import pytest

from oda_proxy.http.storable import shared_headers, storage_refusal, stored_headers, variant, varying_names

HEADERS = (
    ("Content-Type", "application/json"),
    ("content-length", "2"),
    ("ETag", '"1"'),
    ("Set-Cookie", "session=SECRET"),
    ("X-Request-Id", "17"),
    ("Access-Control-Allow-Origin", "https://site.example"),
    ("X-Anything-New", "x"),
)


def test_only_headers_that_describe_the_body_are_stored() -> None:
    assert stored_headers(HEADERS) == (("Content-Type", "application/json"), ("ETag", '"1"'))
    assert ("content-length", "2") in shared_headers(HEADERS)
    assert not any(name in {"Set-Cookie", "X-Request-Id", "X-Anything-New"} for name, _ in shared_headers(HEADERS))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("Cache-Control", "max-age=60, Private", "upstream-private"),
        ("Cache-Control", "no-store", "upstream-no-store"),
        ("Vary", "Origin, *", "upstream-varies"),
        ("Cache-Control", 'private="set-cookie"', ""),
        ("Cache-Control", "no-cache", ""),
        ("Vary", "Origin, Cookie, Accept-Encoding", ""),
    ],
)
def test_a_response_that_its_server_reserves_for_one_client_is_not_stored(name: str, value: str, expected: str) -> None:
    assert storage_refusal(((name, value),)) == expected


def test_a_variant_has_the_values_of_the_headers_in_vary() -> None:
    names = varying_names((("Vary", "Accept-Language, Origin"), ("vary", "USER-AGENT")))

    assert variant((("Accept-Language", "fr"), ("accept-language", "de")), names) == (
        ("accept-language", "fr, de"),
        ("user-agent", ""),
    )
