"""What differs between two values, and by how much: numbers in arrays, lines of text, members of JSON.

Rows, pixels and lines are counted from 1, as in FITS.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from oda_proxy.query.query import ENVELOPE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from oda_proxy.codec.product import Array

VOLATILE: Final = frozenset({"CHECKSUM", "DATASUM", "DATE", "HISTORY", "URL", *(name.upper() for name in ENVELOPE)})
"""Cards that say when and for whom a file was written; of HISTORY only the last one ever arrives."""

LONGEST: Final = 60
"""Characters of a value that are told."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Two numbers are the same where they differ by `atol + rtol * |the recorded one|` at most; NaN is NaN."""

    rtol: float = 0.0
    atol: float = 0.0
    ignored: frozenset[str] = frozenset()
    """Keywords of cards that are not compared, beside `VOLATILE`; `*` stands for anything."""

    def ignores(self, keyword: str) -> bool:
        """Tell whether a card is not compared."""
        name = keyword.upper()
        return name in VOLATILE or any(fnmatchcase(name, pattern.upper()) for pattern in self.ignored)

    def allows(self, was: float, now: float) -> bool:
        """Tell whether two numbers are the same."""
        if was == now or (math.isnan(was) and math.isnan(now)):
            return True
        return math.isfinite(was) and math.isfinite(now) and abs(now - was) <= self.atol + self.rtol * abs(was)


EXACT: Final = Tolerance()


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs, for a person; of numbers the largest differences, where they are finite."""

    where: str
    said: str
    absolute: float | None = None
    relative: float | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.said}" if self.where else self.said


# -- arrays ---------------------------------------------------------------------------------------


def pixel(index: tuple[int, ...]) -> str:
    """Name a place in an image, its axes in the order of FITS."""
    axes = ", ".join(str(number + 1) for number in reversed(index))
    return f"pixel ({axes})"


def row(index: tuple[int, ...]) -> str:
    """Name a place in a column."""
    row, *rest = (number + 1 for number in index)
    return f"row {row}, element {', '.join(map(str, rest))}" if rest else f"row {row}"


def arrays(
    where: str, was: Array, now: Array, tolerance: Tolerance, place: Callable[[tuple[int, ...]], str]
) -> Iterator[Difference]:
    """Compare two arrays of numbers or texts; how their bytes are ordered does not matter.

    `place` names the place of an index.
    """
    old, new = (str(one.dtype.newbyteorder("=")) for one in (was, now))
    if old != new:
        yield Difference(where, f"was of type {old} and is of type {new}")
    if was.shape != now.shape:
        shapes = [" x ".join(map(str, reversed(one.shape))) for one in (was, now)]
        yield Difference(where, f"was of shape {shapes[0]} and is of shape {shapes[1]}")
    elif was.dtype.kind in "SU" and now.dtype.kind in "SU":
        yield from _counted(where, was, now, _decoded_text(was) != _decoded_text(now), place)
    elif was.dtype.kind in _NUMBERS and now.dtype.kind in _NUMBERS:
        yield from _numbers(where, was, now, tolerance, place)
    elif old == new and was.tobytes() != now.tobytes():
        yield Difference(where, "its bytes differ")


def _decoded_text(values: Array) -> Array:
    return values if values.dtype.kind == "U" else np.char.decode(values, "latin-1")


_NUMBERS: Final = "biufc"


def _numbers(
    where: str, was: Array, now: Array, tolerance: Tolerance, place: Callable[[tuple[int, ...]], str]
) -> Iterator[Difference]:
    """Compare numbers, and say by how much they differ: relative to what was recorded, where that is not zero."""
    common = np.result_type(was.dtype.newbyteorder("="), now.dtype.newbyteorder("="), np.float64)
    old, new = was.astype(common), now.astype(common)
    with np.errstate(all="ignore"):
        distance, scale = np.abs(new - old), np.abs(old)
        same = (was == now) | (np.isnan(old) & np.isnan(new))
        finite = np.isfinite(old) & np.isfinite(new)
        differs = ~(same | (finite & (distance > 0) & (distance <= tolerance.atol + tolerance.rtol * scale)))
        relative = np.where(differs & finite & (scale > 0), distance / scale, -1.0)
    measured = np.where(differs & finite, distance, -1.0)
    if not (measured >= 0).any():
        yield from _counted(where, was, now, differs, place)
        return
    largest = np.unravel_index(int(np.argmax(measured)), measured.shape)
    at = tuple(map(int, largest))
    absolute = float(measured[largest])
    most = float(relative.max()) if (relative >= 0).any() else None
    said = f"{_of(differs)} differ, by up to {absolute:.6g} (at {place(at)}: was {was[largest]}, is {now[largest]})"
    if most is not None:
        said += f", relatively by up to {most:.3g}"
    if strange := int((differs & ~finite).sum()):
        said += f"; of them {strange} are NaN or infinite"
    yield Difference(where, said, absolute, most)


def _counted(
    where: str, was: Array, now: Array, differs: Array, place: Callable[[tuple[int, ...]], str]
) -> Iterator[Difference]:
    """Say how many values differ, and which is the first."""
    if differs.any():
        first = np.unravel_index(int(np.argmax(differs)), differs.shape)
        values = f"was {shown(was[first])}, is {shown(now[first])}"
        yield Difference(where, f"{_of(differs)} differ, first at {place(tuple(map(int, first)))}: {values}")


def _of(differs: Array) -> str:
    return f"{int(differs.sum())} of {differs.size} values"


# -- texts and bytes ------------------------------------------------------------------------------


def contents(was: bytes, now: bytes) -> Iterator[Difference]:
    """Compare files byte by byte, and tell their sizes and digests."""
    if was != now:
        digests = [hashlib.sha256(content).hexdigest()[:12] for content in (was, now)]
        yield Difference("", f"had {len(was)} bytes with SHA-256 {digests[0]}..., has {len(now)} with {digests[1]}...")


_WORD: Final = re.compile(r"[^\s,;]+")


def texts(was: str, now: str, tolerance: Tolerance) -> Iterator[Difference]:
    """Compare texts line by line; where they have the same words but for numbers, these are compared."""
    old, new = was.splitlines(), now.splitlines()
    numbers: list[tuple[float, float, int]] = []
    for line, (one, other) in enumerate(zip(old, new, strict=False), 1):
        if one == other:
            continue
        pairs = _number_pairs(one, other)
        if pairs is None:
            yield Difference(f"line {line}", f"was {shown(one)}, is {shown(other)}")
            return
        numbers += [(*pair, line) for pair in pairs]
    if len(old) != len(new):
        yield Difference("", f"it had {len(old)} lines and has {len(new)}")
    if numbers:
        values = np.array([pair[:2] for pair in numbers])
        yield from _numbers("", values[:, 0], values[:, 1], tolerance, lambda index: f"line {numbers[index[0]][2]}")


def _number_pairs(one: str, other: str) -> list[tuple[float, float]] | None:
    """Give the numbers of two lines; None where more than numbers differs."""
    if _WORD.sub("", one) != _WORD.sub("", other):
        return None
    pairs = []
    for was, now in zip(_WORD.findall(one), _WORD.findall(other), strict=False):
        if was == now:
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
                yield Difference(inner, f"is gone; it was {shown(was[name])}")
            elif name not in was:
                yield Difference(inner, f"is new: {shown(now[name])}")
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
    """Compare two values; null and an empty text are the same, as they are to clients."""
    if _is_number(was) and _is_number(now):
        if not tolerance.allows(was, now):
            absolute = abs(now - was)
            relative = absolute / abs(was) if was else None
            finite = math.isfinite(absolute)
            yield Difference(
                where, f"was {was}, is {now}", float(absolute) if finite else None, relative if finite else None
            )
    elif was != now and not (was in _NOTHING and now in _NOTHING) and _without_blanks(was) != _without_blanks(now):
        yield Difference(where, f"was {shown(was)}, is {shown(now)}")


_NOTHING: Final = (None, "")


def _without_blanks(value: Any) -> Any:
    """Give a text without the blanks at its end, which a FITS header does not keep."""
    return value.rstrip() if isinstance(value, str) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGE)


_LARGE: Final = 2**63
"""Whole numbers from here on are compared as they are: they need not be floats."""


def shown(value: Any) -> str:
    """Write a value so that it stays in its line."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    text = str(value)
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in cut) or "empty"
