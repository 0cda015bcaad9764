"""How many earlier versions of a recording are stored, and for how long."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from oda_proxy.http.scope import after
from oda_proxy.store.amounts import parse_age

if TYPE_CHECKING:
    from collections.abc import Iterable

    from oda_proxy.store.base import Entry


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """The limits of the history of each recording: a number of earlier versions, and s since they were replaced."""

    max_versions: float = math.inf
    max_age: float = math.inf

    @classmethod
    def parse(cls, text: str) -> HistoryLimits:
        """Parse `all`, `none`, a number of versions such as `10`, an age such as `365d`, or both: `10,365d`.

        Raises ValueError for another text.
        """
        if text in {"all", "none"}:
            return cls() if text == "all" else cls(max_versions=0)
        limits: dict[str, float] = {}
        for word in text.split(","):
            is_number = word.isascii() and word.isdecimal()
            name = "max_versions" if is_number else "max_age"
            if name in limits:
                raise ValueError(f"{text!r} has two limits of one kind")
            limits[name] = int(word[:_DIGITS]) if is_number else _age(word)
        return cls(**limits)

    def exceeding(self, versions: Iterable[Entry], now: float) -> list[Entry]:
        """Return those of the earlier versions of one recording, in order of time, that are beyond the limits."""
        earlier = [one for one in versions if one.valid_until is not None]
        surplus = max(len(earlier) - self.max_versions, 0)
        return [
            one
            for number, one in enumerate(earlier)
            if number < surplus or now - (one.valid_until or 0.0) > self.max_age
        ]


_DIGITS: Final = 9


def _age(word: str) -> float:
    """Return an age in s; raises ValueError for a text that is none, such as a date."""
    try:
        return parse_age(word)
    except ValueError:
        raise ValueError(f"{word!r} is neither a number nor an age") from None


def next_valid_from(replaced: Entry, stored_at: float) -> float:
    """Return since when a recording that was stored then is the answer, in place of another one.

    One that was recorded earlier than what it replaces, such as an imported one, is the answer after that.
    """
    if stored_at >= after(replaced.valid_from):
        return stored_at
    return after(max(replaced.valid_from, replaced.stored_at))


def restored_from(entry: Entry, replaced: Entry | None, end: float | None) -> float:
    """Return since when the recording of another store, with these metadata there, is the answer in place of another.

    `end` is when the last of the earlier versions was replaced. That is when it was the answer there, unless what it
    replaces is later: nothing is lost where both stores were written to.
    """
    if replaced is None or replaced.valid_from == entry.valid_from:
        return not_before(end, entry.valid_from)
    if replaced.valid_from < entry.valid_from:
        return max(entry.valid_from, after(replaced.valid_from))
    return next_valid_from(replaced, entry.stored_at)


def not_before(end: float | None, begin: float) -> float:
    """Return since when a recording is the answer that would be since `begin`, where versions were until `end`.

    That is later only where a clock was set back since: the times of versions do not overlap.
    """
    return begin if end is None else max(begin, end)


def version_at(versions: Iterable[Entry], time: float) -> Entry | None:
    """Return the version that was the answer at a time, in s since 1970 (UTC); None where there is none."""
    return next(
        (one for one in versions if one.valid_from <= time and (one.valid_until is None or time < one.valid_until)),
        None,
    )
