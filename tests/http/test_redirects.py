"""A redirect keeps a client with the proxy."""

from __future__ import annotations

import pytest

from oda_proxy.http.redirects import rewrite_location

SITE = "https://www.astro.unige.ch/mmoda/dispatch-data"
HERE = "http://127.0.0.1:8400"


@pytest.mark.parametrize(
    ("location", "upstream", "base_url", "expected"),
    [
        (f"{SITE}/instr-list?token=T", SITE, HERE, f"{HERE}/instr-list?token=T"),
        (f"{SITE}/instr-list", SITE, f"{HERE}/p", f"{HERE}/p/instr-list"),
        # the dispatcher is reached at its own address, and redirects to its public one
        (f"{SITE}/download_products?a=1", "http://10.0.0.7:8000", HERE, f"{HERE}/download_products?a=1"),
        ("http://10.0.0.7:8000/dispatch-data/x", "http://10.0.0.7:8000", HERE, f"{HERE}/dispatch-data/x"),
        ("/mmoda/dispatch-data/x", SITE, HERE, f"{HERE}/x"),
    ],
)
def test_a_redirect_to_the_dispatcher_points_at_the_proxy(
    location: str, upstream: str, base_url: str, expected: str
) -> None:
    assert rewrite_location(location, upstream=upstream, base_url=base_url) == expected


@pytest.mark.parametrize(
    "location",
    [
        "https://www.astro.unige.ch/mmoda/?error_message=x",  # a page of the frontend
        "https://example.org/run_analysis",
        "instr-list?x=1",
        "",
    ],
)
def test_a_redirect_to_another_server_is_unchanged(location: str) -> None:
    assert rewrite_location(location, upstream=SITE, base_url=HERE) == location
