"""Headers go on through the proxy, less those of one connection."""

from __future__ import annotations

from oda_proxy.http.headers import directives, end_to_end, media_type, values


def test_headers_of_one_connection_are_not_forwarded() -> None:
    headers = (
        ("Accept", "*/*"),
        ("Connection", "keep-alive, Secret-Hop"),
        ("Secret-Hop", "1"),
        ("Keep-Alive", "5"),
        ("Transfer-Encoding", "chunked"),
        ("Proxy-Authorization", "Basic eA=="),
        ("Upgrade", "h2c"),
    )

    assert end_to_end(headers) == (("Accept", "*/*"), ("Via", "1.1 oda-proxy"))


def test_via_is_appended_to_earlier_ones() -> None:
    assert end_to_end((("Via", "1.0 first"), ("via", "1.1 second"))) == (
        ("Via", "1.0 first, 1.1 second, 1.1 oda-proxy"),
    )


def test_repeated_headers_keep_their_order_and_case() -> None:
    headers = (("Set-Cookie", "a=1"), ("X-Custom", "1"), ("Set-Cookie", "b=2"))

    assert end_to_end(headers, without=["x-custom"]) == (headers[0], headers[2], ("Via", "1.1 oda-proxy"))


def test_directives_are_read_from_every_line() -> None:
    headers = (("Cache-Control", "No-Cache, max-age=0"), ("cache-control", " only-if-cached"))

    assert directives(headers) == {"no-cache", "only-if-cached"}


def test_a_media_type_is_read_without_its_parameters() -> None:
    assert media_type((("content-type", "Text/HTML; charset=utf-8"),)) == "text/html"
    assert media_type(()) == ""


def test_values_are_found_in_any_case() -> None:
    assert values((("Age", "1"), ("AGE", "2")), "age") == ["1", "2"]
