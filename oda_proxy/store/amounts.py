"""Sizes and times as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SECONDS: Final = {"min": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_AGE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(min|h|d|w)", re.ASCII)


def parse_size(text: str) -> int:
    """Parse a size in bytes: `500 MB` and `500M` are 500 million, `2 GiB` is 2 * 1024**3. Raises ValueError."""
    plain = text.strip().casefold().removesuffix("b")
    base = 1024 if plain.endswith("i") else 1000
    plain = plain.removesuffix("i")
    number = plain.rstrip("kmgt")
    size = float(number) * base ** _POWERS[plain[len(number) :]] if plain[len(number) :] in _POWERS else -1.0
    if not 1 <= size < 2**60:
        raise ValueError(text)
    return int(size)


def parse_age(text: str) -> float:
    """Parse an age such as `30d`, and return it in s. Raises ValueError."""
    if (age := _AGE.fullmatch(text.strip())) is None:
        raise ValueError(text)
    return float(age[1]) * _SECONDS[age[2]]


def parse_time_before(text: str, now: float) -> float:
    """Parse a date or a time (ISO, UTC by default), or an age such as `30d` before `now`. Raises ValueError.

    `now` and the result are in s since 1970 (UTC).
    """
    if _AGE.fullmatch(text.strip()):
        return now - parse_age(text)
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except OverflowError as error:
        raise ValueError(text) from error
