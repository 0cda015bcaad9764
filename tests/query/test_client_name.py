"""A client is a person with a verified token, or an address."""

from __future__ import annotations

import pytest

from oda_proxy.query.audience import Sharing, TokenVerifier
from oda_proxy.query.client_name import address_name, client_name
from oda_proxy.query.query import Token
from tests.support.scripted import KEY, token


@pytest.fixture
def tokens() -> TokenVerifier:
    return TokenVerifier(Sharing.SUBJECT, secret_key=KEY, trust=0.0, clock=lambda: 0.0)


def test_a_person_has_one_name_at_all_addresses_and_with_all_tokens(tokens: TokenVerifier) -> None:
    one, other = Token(token("her", roles="a")), Token(token("her", roles="b"))

    assert client_name("192.0.2.1", one, tokens) == client_name("192.0.2.2", other, tokens) == "person her"
    assert client_name("192.0.2.1", Token(token("him")), tokens) == "person him"


@pytest.mark.parametrize("sent", [None, Token(token("her", key="x" * 32)), Token("nothing")])
def test_anybody_else_is_an_address(tokens: TokenVerifier, sent: Token | None) -> None:
    assert client_name("192.0.2.1", sent, tokens) == "address 192.0.2.1"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("2001:db8:1:2:3:4:5:6", "address 2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "address 2001:db8:1:2::/64"),
        ("::1", "address ::/64"),
        ("unix", "address unix"),
    ],
)
def test_an_ipv6_client_has_its_whole_network(address: str, name: str) -> None:
    assert address_name(address) == name
