"""A request of a browser for the page of another site is refused; links are followed, and programs are no browsers."""

from __future__ import annotations

import pytest

from oda_proxy.http.cross_site import CrossSiteError, check_site, origin_of

HOST = {"Host": "server.example.org:8400"}


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("DELETE", {}),
        ("POST", {"Origin": "http://server.example.org:8400"}),
        ("POST", {"Origin": "https://SERVER.example.org:8400", "Sec-Fetch-Site": "same-origin"}),
        ("POST", {"Origin": "https://front.example.org", "Sec-Fetch-Site": "same-origin"}),
        ("GET", {"Sec-Fetch-Site": "same-origin"}),
        ("GET", {"Sec-Fetch-Site": "none"}),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}),
    ],
)
def test_allowed(method: str, headers: dict[str, str]) -> None:
    check_site(method, HOST | headers, {"https://front.example.org"})


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {"Origin": "https://example.org"}),
        ("POST", {"Origin": "null"}),
        ("POST", {"Origin": "http://server.example.org"}),
        ("GET", {"Origin": "https://example.org"}),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}),
        ("GET", {"Sec-Fetch-Site": "same-site"}),
        ("POST", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}),
    ],
)
def test_refused(method: str, headers: dict[str, str]) -> None:
    with pytest.raises(CrossSiteError):
        check_site(method, HOST | headers, {"https://front.example.org"})


def test_a_page_without_encryption_is_another_site_where_the_server_has_https() -> None:
    own = {"https://server.example.org:8400"}
    check_site("POST", HOST | {"Origin": "https://server.example.org:8400"}, own)
    with pytest.raises(CrossSiteError):
        check_site("POST", HOST | {"Origin": "http://server.example.org:8400"}, own)
    with pytest.raises(CrossSiteError):
        check_site("POST", {"Host": "a.org:443", "Origin": "http://a.org:443"}, {"https://a.org"})


def test_an_origin_is_written_as_browsers_do() -> None:
    assert origin_of("https://Example.org:443/oda") == "https://example.org"
    assert origin_of("http://[::1]:8400") == "http://[::1]:8400"
