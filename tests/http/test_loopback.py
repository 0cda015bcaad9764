"""Hosts that are this machine are told by their names."""

from __future__ import annotations

import pytest

from oda_proxy.http.loopback import is_loopback


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
def test_loopback_hosts_are_recognised(host: str, here: bool) -> None:
    assert is_loopback(host) is here
