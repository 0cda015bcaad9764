"""A server that other machines reach without encryption says so."""

from __future__ import annotations

import pytest

from oda_proxy.web.exposure import exposure_warning


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "proxy.example"])  # noqa: S104 - the case in question
def test_other_machines_without_encryption_are_a_reason_to_warn(host: str) -> None:
    warning = exposure_warning([host], has_tls=False, public_url=None)

    assert warning is not None
    assert host in warning
    assert "--tls-cert" in warning
    assert "--public-url https://" in warning
    assert exposure_warning([host], has_tls=False, public_url="http://example.org") == warning


@pytest.mark.parametrize(
    ("host", "has_tls", "public_url"),
    [
        ("127.0.0.1", False, None),
        ("localhost", False, None),
        ("::1", False, None),
        ("0.0.0.0", True, None),  # noqa: S104 - as above
        ("0.0.0.0", False, "https://example.org/oda"),  # noqa: S104 - as above
    ],
)
def test_there_is_no_warning_otherwise(host: str, has_tls: bool, public_url: str | None) -> None:
    assert exposure_warning([host], has_tls=has_tls, public_url=public_url) is None
