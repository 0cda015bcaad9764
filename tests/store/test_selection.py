"""The filters of recordings, in the words of the command line."""

from __future__ import annotations

import pytest

from oda_proxy.errors import UsageError
from oda_proxy.store.selection import WORDS, Filters

NOW = 1_800_000_000.0


def test_filters_are_read_from_the_words_of_the_command_line() -> None:
    texts = {"instrument": "isgri", "source": "Crab*", "used-before": "1d", "larger-than": "2kB"}

    assert Filters.parse(texts, now=NOW) == Filters(
        instrument="isgri", source="Crab*", used_before=NOW - 86400, larger_than=2000
    )
    assert not Filters.parse({}, now=NOW)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"color": "red"}, f"there is no filter 'color'; there are {', '.join(WORDS)}"),
        ({"product": " "}, "product must be a name of up to 1000 characters, not ' '"),
        ({"source": "*" * 1001}, "source must be a name of up to 1000 characters"),
        ({"larger-than": "much"}, "larger-than must be a size such as 500MB or 2GiB, not 'much'"),
        ({"stored-before": "9999999999999d"}, "stored-before must be a date such as 2026-01-31, or an age"),
    ],
)
def test_a_filter_that_cannot_be_read_is_named(texts: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        Filters.parse(texts, now=NOW)

    assert str(raised.value).startswith(message)
