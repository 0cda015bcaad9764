"""Headers of front ends count only as far as trusted front ends have added them."""

from __future__ import annotations

import ipaddress

import pytest

from oda_proxy.http.front_end_headers import (
    HEADERS,
    MAX_LENGTH,
    UNIX,
    UNKNOWN,
    FrontEndHeadersError,
    Reported,
    TrustedProxies,
    normalised_address,
    reported,
)

TRUSTED = TrustedProxies((ipaddress.ip_network("127.0.0.1"), ipaddress.ip_network("10.0.0.0/8")))
NGINX, CLIENT = "127.0.0.1", "192.0.2.7"


def report(
    headers: dict[str, str] | None = None, peer: str = NGINX, trusted: TrustedProxies = TRUSTED
) -> Reported | None:
    """Return what is reported; `headers` are named without `X-Forwarded-`."""
    headers = headers or {}
    names = {name.casefold().replace("-", "_").removeprefix("x_forwarded_"): name for name in HEADERS}
    assert set(headers) <= set(names)
    return reported(peer, tuple(headers.get(name, "") for name in names), trusted)


def test_a_trusted_front_end_reports_client_scheme_host_and_prefix() -> None:
    found = report({"for": CLIENT, "proto": "https", "host": "oda.example:8443", "prefix": "/oda/"})

    assert found == Reported(CLIENT, "https", "oda.example:8443", "/oda")


@pytest.mark.parametrize("peer", [CLIENT, "11.0.0.1", "::1", UNIX, UNKNOWN, "", "not an address"])
def test_headers_of_anybody_else_are_ignored(peer: str) -> None:
    assert report({"for": "127.0.0.1", "proto": "https", "host": "evil.example"}, peer) is None


def test_what_a_client_writes_in_front_of_the_front_end_s_own_entry_is_ignored() -> None:
    found = report(
        {"for": f"127.0.0.1, 10.1.1.1, {CLIENT}", "proto": "http, https", "host": "evil.example, good.example"}
    )

    assert found == Reported(CLIENT, "https", "good.example", None)


def test_a_chain_of_front_ends_is_followed_to_the_first_that_is_not_trusted() -> None:
    found = report(
        {"for": f"198.51.100.1, {CLIENT}, 10.0.0.2", "proto": "gopher, https, http", "host": "x, outer, inner"}
    )

    assert found == Reported(CLIENT, "https", "outer", None)


def test_one_value_counts_for_the_whole_chain() -> None:
    found = report({"for": f"{CLIENT}, 10.0.0.2", "proto": "https"})

    assert found is not None
    assert (found.client, found.scheme) == (CLIENT, "https")


def test_a_request_of_the_front_end_itself_is_its_own() -> None:
    assert report() == Reported(NGINX)


def test_clients_of_a_unix_socket_are_trusted_only_where_it_is_said() -> None:
    trusted = TrustedProxies(unix=True)

    assert report({"for": CLIENT}, UNIX, trusted) == Reported(CLIENT)
    assert report({"for": CLIENT}, NGINX, trusted) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=192.0.2.7;proto=https;host=oda.example", Reported(CLIENT, "https", "oda.example")),
        ('For="[2001:db8::17]:4711"; Proto=HTTPS', Reported("2001:db8::17", "https")),
        ("for=127.0.0.1, for=192.0.2.7;host=a;by=x , for=10.0.0.1;host=b", Reported(CLIENT, None, "a")),
        ('for="_gazonk"', Reported("_gazonk")),
        ("for=unknown;proto=https", Reported(UNKNOWN, "https")),
        ("proto=https", Reported(UNKNOWN, "https")),
        (r'for=192.0.2.7;host="oda\.example"', Reported(CLIENT, None, "oda.example")),
        (",for=192.0.2.7,", Reported(UNKNOWN)),
    ],
)
def test_the_header_of_rfc_7239_is_read(value: str, expected: Reported) -> None:
    assert report({"forwarded": value}) == expected


@pytest.mark.parametrize("value", ["for", 'for="', "for==x", "for=a b", "for=a;;=", "=", '"for"=a', "for=a\x00,"])
def test_a_header_that_is_not_valid_is_refused(value: str) -> None:
    with pytest.raises(FrontEndHeadersError, match="RFC 7239"):
        report({"forwarded": value})


def test_headers_that_contradict_each_other_are_refused() -> None:
    assert report({"forwarded": f"for={CLIENT}", "for": CLIENT}) == Reported(CLIENT)
    with pytest.raises(FrontEndHeadersError, match="remove the one that it does not set"):
        report({"forwarded": "for=127.0.0.1", "for": CLIENT})


@pytest.mark.parametrize("name", ["for", "proto", "host", "prefix", "forwarded"])
def test_a_long_header_is_refused(name: str) -> None:
    with pytest.raises(FrontEndHeadersError, match="longer than 4096 characters"):
        report({name: "a" * (MAX_LENGTH + 1)})


@pytest.mark.parametrize("host", ["a b", "a/b", "a@b", "a:99999999", "<script>", "", "a\nb", "é", "[::1"])
def test_a_host_that_is_none_does_not_count(host: str) -> None:
    assert report({"host": host}) == Reported(NGINX)


@pytest.mark.parametrize(
    "prefix", ["oda", "/", "//evil.example", "/a/../b", "/a/./b", "/a b", "/%2e", '/"', "/" + "a" * 65]
)
def test_a_prefix_that_is_no_plain_path_does_not_count(prefix: str) -> None:
    assert report({"prefix": prefix}) == Reported(NGINX)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (" 192.0.2.7 ", CLIENT),
        ("192.0.2.7:4711", CLIENT),
        ("::ffff:192.0.2.7", CLIENT),
        ("[2001:DB8:0::1]:80", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("localhost", UNKNOWN),
        ("1.2.3", UNKNOWN),
        ("_", UNKNOWN),
        ("", UNKNOWN),
        ("'; DROP TABLE", UNKNOWN),
    ],
)
def test_addresses_are_normalised(text: str, address: str) -> None:
    assert normalised_address(text) == address
