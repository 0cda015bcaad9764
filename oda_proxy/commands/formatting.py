"""Sizes, durations and queries as text for people."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from oda_proxy.query.message_text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from oda_proxy.query.query import Query

_SIZES = ("B", "kB", "MB", "GB", "TB")
_SPANS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def size(count: float) -> str:
    """Format a number of bytes: `25.3 MB`."""
    power = 0
    while count >= 999.5 and power < len(_SIZES) - 1:  # noqa: PLR2004 - rounds to four digits
        count, power = count / 1000, power + 1
    return f"{count:.3g} {_SIZES[power]}"


def span(seconds: float) -> str:
    """Format a duration in s: `3.2 h`."""
    for unit, name in _SPANS:
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.2g} s"


def parameters(query: Query | None) -> list[tuple[str, str]]:
    """Return the names and values of a query's parameters as printable text."""
    if query is None:
        return []
    return [(printable(name), printable(", ".join(values))) for name, values in query.parameters]


def table(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Align rows of text in columns; `right` are the indices of columns that are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[-1] = 0
    return _aligned(rows, widths, right)


def streamed_table(
    heading: Sequence[str], rows: Iterable[Sequence[str]], *, right: frozenset[int] = frozenset(), at_once: int = 100
) -> Iterator[str]:
    """Align rows of text as `table`, so many at a time: columns are as wide as the widest of the rows so far."""
    widths, batch = [0] * len(heading), [heading]
    remaining = iter(rows)
    while batch := [*batch, *islice(remaining, at_once)]:
        widths = [max(width, *map(len, column)) for width, column in zip(widths, zip(*batch, strict=True), strict=True)]
        widths[-1] = 0
        yield from _aligned(batch, widths, right)
        batch = []


def _aligned(rows: Iterable[Sequence[str]], widths: Sequence[int], right: frozenset[int]) -> list[str]:
    return [
        "  ".join(
            text.rjust(width) if number in right else text.ljust(width)
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def number(count: int, one: str, many: str = "") -> str:
    """Format a count with its noun; the plural `many` defaults to `one` with an s."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"
