"""How sizes, times and what was asked are told to a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oda_proxy.query.query import Query

SHORT = 12
"""Digits of a key that are shown: enough to name it."""

_SIZES = ("B", "kB", "MB", "GB", "TB")
_SPANS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def size(count: float) -> str:
    """Tell a number of bytes: `25.3 MB`."""
    power = 0
    while count >= 999.5 and power < len(_SIZES) - 1:  # noqa: PLR2004 - what would be shown with four digits
        count, power = count / 1000, power + 1
    return f"{count:.3g} {_SIZES[power]}"


def span(seconds: float) -> str:
    """Tell how long something takes: `3.2 h`."""
    for unit, name in _SPANS:
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.2g} s"


def plain(text: str) -> str:
    """Write out what a terminal would obey or hide: it comes from outside."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def short(text: str, most: int) -> str:
    """Cut a text that is too long for its place."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def parameters(query: Query | None) -> list[tuple[str, str]]:
    """Tell the names and values of what was asked."""
    if query is None:
        return []
    return [(plain(name), plain(", ".join(values))) for name, values in query.parameters]


def table(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Put rows of texts into columns, those of the numbers given to the right; the last is as wide as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[-1] = 0
    return [
        "  ".join(
            text.rjust(width) if number in right else text.ljust(width)
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def number(count: int, one: str, many: str = "") -> str:
    """Tell how many there are of something; `many` is `one` with an s where it is not said."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"
