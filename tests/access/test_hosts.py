"""Under which names a server answers."""

from __future__ import annotations

import pytest

from oda_proxy.access.hosts import HostPolicy, WrongHostError

ALLOWING = HostPolicy(allowed=frozenset({"oda.example.org"}))
ON_ONE_ADDRESS = HostPolicy(allowed=frozenset({"oda.example.org"}), is_on_loopback=False)


@pytest.mark.parametrize(
    ("policy", "host"),
    [
        (HostPolicy(), "localhost:8400"),
        (HostPolicy(), "127.0.0.1:8400"),
        (HostPolicy(), "[::1]:8400"),
        (HostPolicy(), "10.1.2.3"),
        (HostPolicy(), "server:8400"),
        (HostPolicy(), None),
        (HostPolicy(own=frozenset({"node1.example.org"})), "Node1.Example.org:8400"),
        (ALLOWING, "ODA.example.org"),
        (ALLOWING, "oda.example.org:443"),
        (ALLOWING, "127.0.0.1"),
        (HostPolicy(allowed=frozenset({"*"})), "whatever.example.org"),
    ],
)
def test_answered(policy: HostPolicy, host: str | None) -> None:
    policy.check(host)


@pytest.mark.parametrize(
    ("policy", "host"),
    [
        (HostPolicy(), "rebound.example.org:8400"),
        (HostPolicy(), "127.0.0.1.example.org"),
        (ALLOWING, "10.1.2.3"),
        (ALLOWING, "server"),
        (ALLOWING, "oda.example.org.evil.example"),
        (ON_ONE_ADDRESS, "localhost"),
        (HostPolicy(), "a.b:c:d"),
        (HostPolicy(), "[a.b"),
    ],
)
def test_refused(policy: HostPolicy, host: str) -> None:
    with pytest.raises(WrongHostError):
        policy.check(host)


def test_names_count_for_all_requests_where_they_are_given() -> None:
    assert (HostPolicy().is_for_all, ALLOWING.is_for_all, HostPolicy(allowed=frozenset({"*"})).is_for_all) == (
        False,
        True,
        False,
    )
