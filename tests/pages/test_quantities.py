"""Numbers, sizes, durations, times and positions read well."""

from __future__ import annotations

import pytest

from oda_proxy.pages import quantities
from oda_proxy.query.subject import Subject


def plain(text: str) -> str:
    return text.replace(quantities.NO_BREAK, " ").replace("\N{NARROW NO-BREAK SPACE}", "'")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (quantities.number(999), "999"),
        (quantities.number(100_000), "100'000"),
        (quantities.plural(1, "recording"), "1 recording"),
        (quantities.plural(0, "recording"), "0 recordings"),
        (quantities.plural(2, "query", "queries"), "2 queries"),
        (quantities.size(0), "0 B"),
        (quantities.size(999), "999 B"),
        (quantities.size(999_600), "1 MB"),
        (quantities.size(25_340_000), "25.3 MB"),
        (quantities.size(2.5e15), "2500 TB"),
        (quantities.span(0.5712), "0.57 s"),
        (quantities.span(0.0018), "1.8 ms"),
        (quantities.span(0), "0 s"),
        (quantities.span(42.4), "42 s"),
        (quantities.span(3600 * 3.2), "3.2 h"),
        (quantities.hours(7200), "2 h"),
        (quantities.hours(3600 * 12_345), "12'345 h"),
        (quantities.age(1000.0, 1065.0), "1 min ago"),
        (quantities.age(1000.0, 1000.5), "now"),
        (quantities.age(1000.0, 900.0), "now"),
        (quantities.moment(1047770860), "2003-03-15 23:27:40"),
        (quantities.moment(float("inf")), "9999-12-31 23:59:59"),
        (quantities.position(Subject(position=(83.63311, -22.01446))), "83.6331 \N{MINUS SIGN}22.0145"),
        (quantities.position(Subject()), ""),
        (quantities.time_range(Subject(begin=52713.5, end=52714.0)), "2003-03-15 12:00, 12 h"),
        (quantities.time_range(Subject(begin=52713.5)), "2003-03-15 12:00"),
        (quantities.time_range(Subject(begin=52713.5, end=1.0)), "2003-03-15 12:00"),
        (quantities.time_range(Subject(end=52714.0)), ""),
        (
            quantities.full_time_range(Subject(begin=52713.5, end=52714.0)),
            "2003-03-15 12:00:00 to 2003-03-16 00:00:00 UTC (12 h)",
        ),
    ],
)
def test_values_have_units_and_few_digits(text: str, expected: str) -> None:
    assert plain(text) == expected
