"""Differences between two values: arrays, lines of text, members of JSON.

Rows, pixels and lines are counted from 1, as in FITS.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from oda_proxy.query.message_text import shorten
from oda_proxy.query.query import ENVELOPE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from oda_proxy.codec.product import Array

VOLATILE: Final = frozenset({"CHECKSUM", "DATASUM", "DATE", "HISTORY", "URL", *(name.upper() for name in ENVELOPE)})
"""Cards that depend on when and for whom a file was written. Of HISTORY, the wire form holds the last card only."""

LONGEST: Final = 60
"""Maximum length of a value in a message."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Two numbers are equal if they differ by at most `atol + rtol * |recorded|`; NaN equals NaN."""

    rtol: float = 0.0
    atol: float = 0.0
    ignored: frozenset[str] = frozenset()
    """Keywords of cards that are not compared, besides `VOLATILE`; `*` matches any characters."""

    def ignores(self, keyword: str) -> bool:
        """Whether a card is not compared."""
        name = keyword.upper()
        return name in VOLATILE or any(fnmatchcase(name, pattern.upper()) for pattern in self.ignored)

    def allows(self, was: float, now: float) -> bool:
        """Whether two numbers are equal within the tolerance."""
        if was == now or (math.isnan(was) and math.isnan(now)):
            return True
        return math.isfinite(was) and math.isfinite(now) and abs(now - was) <= self.atol + self.rtol * abs(was)


EXACT: Final = Tolerance()


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference, described for people; for numbers with the largest finite differences."""

    where: str
    text: str
    absolute: float | None = None
    relative: float | None = None
    was: Any = field(default=None, compare=False)
    """The recorded value; of an array that at the largest, or the first, difference."""
    now: Any = field(default=None, compare=False)
    count: int | None = field(default=None, compare=False)
    """Number of values of an array that differ."""
    size: int | None = field(default=None, compare=False)
    """Number of values of the array."""
    of_array: bool = field(default=False, compare=False)
    """Whether it is a difference of an array of a data product."""

    def __str__(self) -> str:
        return f"{self.where}: {self.text}" if self.where else self.text


# -- arrays ---------------------------------------------------------------------------------------


def pixel(index: tuple[int, ...]) -> str:
    """Name a pixel of an image, its axes in the order of FITS."""
    axes = ", ".join(str(number + 1) for number in reversed(index))
    return f"pixel ({axes})"


def row(index: tuple[int, ...]) -> str:
    """Name a row of a column, or an element in it."""
    row, *rest = (number + 1 for number in index)
    return f"row {row}, element {', '.join(map(str, rest))}" if rest else f"row {row}"


def arrays(
    where: str, was: Array, now: Array, tolerance: Tolerance, place: Callable[[tuple[int, ...]], str]
) -> Iterator[Difference]:
    """Compare two arrays of numbers or text, in any byte order.

    `place` describes an index.
    """
    old, new = (str(one.dtype.newbyteorder("=")) for one in (was, now))
    if old != new:
        yield Difference(where, f"was of type {old} and is of type {new}")
    if was.shape != now.shape:
        shapes = [" x ".join(map(str, reversed(one.shape))) for one in (was, now)]
        yield Difference(where, f"was of shape {shapes[0]} and is of shape {shapes[1]}")
    elif was.dtype.kind in "SU" and now.dtype.kind in "SU":
        yield from _counted(where, was, now, _different_text(_decoded_text(was), _decoded_text(now)), place)
    elif was.dtype.kind in _NUMBERS and now.dtype.kind in _NUMBERS:
        yield from _numbers(where, was, now, tolerance, place)
    elif old == new and was.tobytes() != now.tobytes():
        yield Difference(where, "its bytes differ")


def _different_text(was: Array, now: Array) -> Array:
    """Return which texts differ; those that are equal numbers or instants do not."""
    differs = was != now
    for index in np.argwhere(differs):
        differs[tuple(index)] = not is_same_text(str(was[tuple(index)]), str(now[tuple(index)]))
    return np.asarray(differs)


def _decoded_text(values: Array) -> Array:
    return values if values.dtype.kind == "U" else np.char.decode(values, "latin-1")


_NUMBERS: Final = "biufc"


def _numbers(
    where: str, was: Array, now: Array, tolerance: Tolerance, place: Callable[[tuple[int, ...]], str]
) -> Iterator[Difference]:
    """Compare numbers; relative differences are those to recorded values other than 0."""
    common = np.result_type(was.dtype.newbyteorder("="), now.dtype.newbyteorder("="), np.float64)
    old, new = was.astype(common), now.astype(common)
    with np.errstate(all="ignore"):
        distance, scale = np.abs(new - old), np.abs(old)
        same = (was == now) | (np.isnan(old) & np.isnan(new))
        finite = np.isfinite(old) & np.isfinite(new)
        differs = ~(same | (finite & (distance > 0) & (distance <= tolerance.atol + tolerance.rtol * scale)))
        relative = np.where(differs & finite & (scale > 0), distance / scale, -1.0)
    finite_distance = np.where(differs & finite, distance, -1.0)
    if not (finite_distance >= 0).any():
        yield from _counted(where, was, now, differs, place)
        return
    largest = np.unravel_index(int(np.argmax(finite_distance)), finite_distance.shape)
    index = tuple(map(int, largest))
    absolute = float(finite_distance[largest])
    most = float(relative.max()) if (relative >= 0).any() else None
    text = f"{_of(differs)} differ, by up to {absolute:.6g} (at {place(index)}: was {was[largest]}, is {now[largest]})"
    if most is not None:
        text += f", relatively by up to {most:.3g}"
    if strange := int((differs & ~finite).sum()):
        text += f"; of them {strange} are NaN or infinite"
    values = {"was": was[largest].item(), "now": now[largest].item()}
    yield Difference(where, text, absolute, most, **values, count=int(differs.sum()), size=differs.size)


def _counted(
    where: str, was: Array, now: Array, differs: Array, place: Callable[[tuple[int, ...]], str]
) -> Iterator[Difference]:
    """Report how many values differ, and the first of them."""
    if differs.any():
        first = np.unravel_index(int(np.argmax(differs)), differs.shape)
        old, new = was[first], now[first]
        yield Difference(
            where,
            f"{_of(differs)} differ, first at {place(tuple(map(int, first)))}: was {shown(old)}, is {shown(new)}",
            was=old.item(),
            now=new.item(),
            count=int(differs.sum()),
            size=differs.size,
        )


def _of(differs: Array) -> str:
    return f"{int(differs.sum())} of {differs.size} values"


# -- texts and bytes ------------------------------------------------------------------------------


def contents(was: bytes, now: bytes) -> Iterator[Difference]:
    """Compare the bytes of two files; the report has their sizes and digests."""
    if was != now:
        digests = [hashlib.sha256(content).hexdigest()[:12] for content in (was, now)]
        yield Difference("", f"had {len(was)} bytes with SHA-256 {digests[0]}..., has {len(now)} with {digests[1]}...")


_WORD: Final = re.compile(r"[^\s,;]+")


def texts(was: str, now: str, tolerance: Tolerance) -> Iterator[Difference]:
    """Compare texts line by line; lines that differ only in numbers are compared by number."""
    old, new = was.splitlines(), now.splitlines()
    numbers: list[tuple[float, float, int]] = []
    for line, (one, other) in enumerate(zip(old, new, strict=False), 1):
        if one == other:
            continue
        pairs = _number_pairs(one, other)
        if pairs is None:
            yield Difference(f"line {line}", f"was {shown(one)}, is {shown(other)}", was=one, now=other)
            return
        numbers += [(*pair, line) for pair in pairs]
    if len(old) != len(new):
        yield Difference("", f"it had {len(old)} lines and has {len(new)}", was=len(old), now=len(new))
    if numbers:
        values = np.array([pair[:2] for pair in numbers])
        yield from _numbers("", values[:, 0], values[:, 1], tolerance, lambda index: f"line {numbers[index[0]][2]}")


def _number_pairs(one: str, other: str) -> list[tuple[float, float]] | None:
    """Return the numbers that differ between two lines; None if anything else differs."""
    if _WORD.sub("", one) != _WORD.sub("", other):
        return None
    pairs = []
    for was, now in zip(_WORD.findall(one), _WORD.findall(other), strict=False):
        if was == now or is_same_text(was, now):
            continue
        try:
            pairs.append((float(was), float(now)))
        except ValueError:
            return None
    return pairs


# -- JSON -----------------------------------------------------------------------------------------


def members(where: str, was: Any, now: Any, tolerance: Tolerance) -> Iterator[Difference]:
    """Compare two JSON values, objects member by member."""
    if isinstance(was, dict) and isinstance(now, dict):
        for name in dict.fromkeys((*was, *now)):
            inner = f"{where} {name}".strip()
            if name not in now:
                yield Difference(inner, f"is gone; it was {shown(was[name])}", was=was[name])
            elif name not in was:
                yield Difference(inner, f"is new: {shown(now[name])}", now=now[name])
            else:
                yield from members(inner, was[name], now[name], tolerance)
    elif isinstance(was, list) and isinstance(now, list):
        yield from _lists(where, was, now, tolerance)
    else:
        yield from leaves(where, was, now, tolerance)


def _lists(where: str, was: Sequence[Any], now: Sequence[Any], tolerance: Tolerance) -> Iterator[Difference]:
    if len(was) != len(now):
        yield Difference(where, f"had {len(was)} members and has {len(now)}")
    elif was and all(_is_number(value) for value in (*was, *now)):
        yield from _numbers(where, np.array(was), np.array(now), tolerance, row)
    else:
        for number, (one, other) in enumerate(zip(was, now, strict=True), 1):
            yield from members(f"{where}, row {number}".removeprefix(", "), one, other, tolerance)


def leaves(where: str, was: Any, now: Any, tolerance: Tolerance) -> Iterator[Difference]:
    """Compare two values; numbers and texts of them, times that are one instant, null and an empty text are equal, too.

    Dispatchers write `20`, `20.0` and `"20"` for one number, and `12:00:00` and `12:00:00.000` for one time.
    """
    recorded, current = was, now
    if isinstance(was, str) != isinstance(now, str):
        was, now = (number if (number := _number_in(one)) is not None else one for one in (was, now))
    if _is_number(was) and _is_number(now):
        if not tolerance.allows(was, now):
            absolute = abs(now - was)
            relative = absolute / abs(was) if was else None
            finite = math.isfinite(absolute)
            yield Difference(
                where,
                f"was {was}, is {now}",
                float(absolute) if finite else None,
                relative if finite else None,
                recorded,
                current,
            )
    elif isinstance(was, str) and isinstance(now, str):
        old, new = _without_blanks(was), _without_blanks(now)
        if old != new and not is_same_text(old, new):
            yield Difference(where, f"was {shown(was)}, is {shown(now)}", was=was, now=now)
    elif was != now and not (was in _EMPTY and now in _EMPTY):
        yield Difference(where, f"was {shown(was)}, is {shown(now)}", was=was, now=now)


_EMPTY: Final = (None, "")


def _without_blanks(value: Any) -> Any:
    """Return a text without trailing blanks, which a FITS header does not preserve."""
    return value.rstrip() if isinstance(value, str) else value


_NUMBER: Final = re.compile(r"[+-]?(?:0|[1-9]\d{0,300})?(?:\.\d{0,300})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
"""A number in a text; one with leading zeros, such as the id of a science window, is a name."""


def _number_in(value: Any) -> float | None:
    """Return the number that a value is, or that a text holds; None for others."""
    if _is_number(value):
        return float(value)
    if not isinstance(value, str) or not _NUMBER.fullmatch(text := value.strip()):
        return None
    try:
        return float(text)
    except ValueError:  # no digits
        return None


def _instant_in(text: str) -> datetime | None:
    """Return the time in a text in ISO form, UTC by default; None for others."""
    if not _TIME.fullmatch(text.strip()):
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


_TIME: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:Z|[+-]\d{2}:\d{2})?)?", re.ASCII
)


def is_same_text(was: str, now: str) -> bool:
    """Whether two texts are equal, or equal numbers, or times that are one instant."""
    if was == now:
        return True
    numbers = _number_in(was), _number_in(now)
    if None not in numbers:
        return numbers[0] == numbers[1]
    instants = _instant_in(was), _instant_in(now)
    return None not in instants and instants[0] == instants[1]


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGE)


_LARGE: Final = 2**63
"""Larger integers are compared exactly: they may not be representable as float."""


def shown(value: Any) -> str:
    """Format a value for a message of one line."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return shorten(str(value), LONGEST) or "empty"
