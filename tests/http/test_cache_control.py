"""Requests say how old a stored response may be."""

from __future__ import annotations

import pytest

from oda_proxy.http.cache_control import CacheControl, cache_control


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((), CacheControl()),
        ((("Cache-Control", "No-Cache"), ("cache-control", " only-if-cached")), CacheControl(True, False, True)),
        ((("Cache-Control", "no-store, max-age=60"),), CacheControl(no_store=True, max_age=60.0)),
        ((("Cache-Control", 'max-age="60"'),), CacheControl(max_age=60.0)),
        ((("Cache-Control", "max-age=60, max-age=0"),), CacheControl(max_age=60.0)),
        ((("Cache-Control", "max-age=-1, max-stale"),), CacheControl()),
        ((("Cache-Control", "max-age"),), CacheControl()),
        ((("Cache-Control", "max-age=\N{SUPERSCRIPT TWO}"),), CacheControl()),
        ((("Cache-Control", f"max-age={'9' * 10_000}"),), CacheControl(max_age=99999999999999999999.0)),
        ((("Pragma", "no-cache"),), CacheControl(no_cache=True)),
        ((("pragma", "x, No-Cache"),), CacheControl(no_cache=True)),
        ((("Pragma", "no-cache"), ("Cache-Control", "max-age=60")), CacheControl(max_age=60.0)),
        ((("Pragma", "only-if-cached"),), CacheControl()),
    ],
)
def test_directives_are_read_from_every_line_and_pragma_where_there_is_none(
    headers: tuple[tuple[str, str], ...], expected: CacheControl
) -> None:
    assert cache_control(headers) == expected


def test_a_stored_response_may_be_as_old_as_the_request_says() -> None:
    assert CacheControl().allows(1e9)
    assert CacheControl(max_age=60.0).allows(60.0)
    assert not CacheControl(max_age=60.0).allows(60.1)
    assert not CacheControl(max_age=0.0).allows(0.0)  # a reload, also in the second in which it was stored
    assert not CacheControl(no_cache=True).allows(0.0)
    assert not CacheControl(no_store=True).allows(0.0)
