"""Find the recorded query that is nearest to one without a recording, and describe the differences.

Queries are compared in canonical form: two spellings of one value are no difference.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from oda_proxy.query import canonical
from oda_proxy.query.message_text import shorten
from oda_proxy.query.normalised import NULL
from oda_proxy.query.query import NUL

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from oda_proxy.query.normalised import NormalisedQuery, Value

MAX_DIFFERENCES: Final = 8
"""Differences that are described; the others are counted."""

_MAX_NAMES: Final = 3
_NO_LIST: Final = ("list",)
_CATALOG: Final = "selected_catalog"
_DEGREES: Final = "deg"
_SPANS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))
_FEW: Final = 3.0  # of a unit of time; shorter times are written in a smaller unit

Recorded = TypeVar("Recorded")
"""The caller's object for a recording."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference in one parameter; `size` is from 0, no difference, to 1, nothing in common."""

    text: str
    size: float = 1.0


@dataclass(frozen=True, slots=True)
class Near(Generic[Recorded]):
    """The nearest recording, and how the query differs from the recorded one."""

    recorded: Recorded
    differences: tuple[Difference, ...]


def nearest(query: NormalisedQuery, recorded: Iterable[tuple[Recorded, NormalisedQuery]]) -> Near[Recorded] | None:
    """Find the nearest of the recordings with the same instrument and product; None where there is none.

    The nearest differs in the fewest parameters; of several, in the smallest total size; of equals, it is the first.
    """
    near = (
        Near(recording, tuple(_differences(query, other)))
        for recording, other in recorded
        if (other.instrument, other.product_type) == (query.instrument, query.product_type)
    )
    return min(near, key=_distance, default=None)


def join_differences(differences: Iterable[str]) -> str:
    """Join descriptions of differences in one line."""
    texts = list(differences)
    if len(texts) > MAX_DIFFERENCES:
        texts[MAX_DIFFERENCES:] = [f"and {len(texts) - MAX_DIFFERENCES} more differences"]
    return "; ".join(texts)


def _distance(near: Near[Recorded]) -> tuple[int, float]:
    return len(near.differences), sum(one.size for one in near.differences)


def _differences(query: NormalisedQuery, other: NormalisedQuery) -> list[Difference]:
    here, there = _values(query), _values(other)
    found = []
    for name in dict.fromkeys((*here, *there)):
        if _same(one := here.get(name), another := there.get(name)):
            continue
        difference = _difference(name, one, another)
        if name in query.defaulted and one is not None and not _is_nothing(one):
            difference = Difference(f"{difference.text} (it was not given: that is its default)", difference.size)
        found.append(difference)
    return found


def _values(query: NormalisedQuery) -> dict[str, Value]:
    """Return everything that is requested of a product, by the name that a person knows."""
    return {
        "query_type": ("text", query.query_type),
        **({"api": ("text", "True")} if query.api else {}),
        **query.parameters,
        **{f"file {name}": ("text", digest) for name, digest in query.files},
    }


def _same(one: Value | None, other: Value | None) -> bool:
    """Return whether two values are the same; two descriptions may give one text different tags."""
    if one is None or other is None:
        return one is other
    return one == other or (len(one) > 1 and one[1:] == other[1:])


def _difference(name: str, one: Value | None, another: Value | None) -> Difference:
    label = shorten(name)
    if one is None or (another is not None and _is_nothing(one)):
        return Difference(f"{label} is missing")
    if another is None or _is_nothing(another):
        return Difference(f"{label} is given ({_shown(name, one)})")
    here, there = _read(one), _read(another)
    if here == there:  # a default that is not converted like a sent value, or two spellings
        return Difference(f"{label} is written {_written(one)} and not {_written(another)}", 0.0)
    compared = None
    if here[0] == there[0]:
        match here[0]:
            case "time":
                compared = _times(here[1], there[1])
            case "number" if here[2:] == there[2:]:
                compared = _numbers(here, there)
            case "list":
                compared = _lists(here[1:], there[1:])
            case "JSON" if name == _CATALOG:
                compared = _catalogs(here[1], there[1])
    if compared is None:
        return Difference(f"{label} is {_shown(name, here)} and not {_shown(name, there)}")
    return Difference(f"{label} {compared.text}", compared.size)


def _is_nothing(value: Value) -> bool:
    return value in (NULL, _NO_LIST, ("words", NUL))


def _read(value: Value) -> Value:
    """Return a value for comparison: a default as its value, and a text as the number or time that it looks like."""
    tag, *texts = value
    if tag == "default":
        return tuple(texts)
    if tag == "words" and len(texts) == 1:
        if (number := canonical.number(texts[0])) is not None:
            return "number", number
        if (form := canonical.json_form(texts[0])) is not None:
            return "JSON", form
        if _moment(texts[0]) is not None:
            return "time", texts[0]
    return value


def _written(value: Value) -> str:
    tag, *texts = value
    return "as its default" if tag == "default" else shorten(",".join(texts))


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _times(here: str, there: str) -> Difference | None:
    one, other = _moment(here), _moment(there)
    if one is None or other is None or (one.tzinfo is None) != (other.tzinfo is None) or one == other:
        return None
    seconds = (one - other).total_seconds()
    length = abs(seconds)
    scale, unit = next(((scale, unit) for scale, unit in _SPANS if length >= _FEW * scale), (1.0, "s"))
    shown = f"{length / scale:.1f}" if length >= 1 else f"{length:.3g}"
    return Difference(f"is {shown} {unit} {'later' if seconds > 0 else 'earlier'}", min(length / 86400.0, 1.0))


def _numbers(here: Value, there: Value) -> Difference | None:
    one, other = float(here[1]), float(there[1])
    if not math.isfinite(one - other) or one == other:
        return None
    if here[2:] == (_DEGREES,):
        comparison = "greater" if one > other else "smaller"
        return Difference(f"is {abs(one - other):.6g} deg {comparison}", min(abs(one - other) / 180, 1.0))
    size = min(abs(one - other) / max(abs(one), abs(other)), 1.0)
    return Difference(f"is {_number(here)} and not {_number(there)}", size)


def _number(value: Value) -> str:
    return shorten(" ".join(value[1:]))


def _lists(here: Sequence[str], there: Sequence[str]) -> Difference:
    ours, theirs = set(here), set(there)
    missing, extra = [one for one in there if one not in ours], [one for one in here if one not in theirs]
    if not missing and not extra:
        how = "is in another order" if sorted(here) == sorted(there) else "has the same items, some repeated"
        return Difference(how, 0.0)
    parts = [f"{verb} {_enumerated(items)}" for verb, items in (("lacks", missing), ("has also", extra)) if items]
    return Difference(" and ".join(parts), (len(missing) + len(extra)) / (len(here) + len(there)))


def _catalogs(here: str, there: str) -> Difference:
    first, second = _sources(here), _sources(there)
    if first is None or second is None or first == second:
        return Difference("has the same sources, but other values" if first else "has other values", 0.1)
    return _lists(first, second)


def _sources(text: str) -> list[str] | None:
    """Return the names of the sources of a catalogue; None where it has none."""
    try:
        catalog = json.loads(text)
        return [str(name) for name in catalog["cat_column_list"][catalog["cat_column_names"].index("src_names")]]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None


def _enumerated(items: Collection[str]) -> str:
    first = ", ".join(shorten(item) for item in list(items)[:_MAX_NAMES])
    return first if len(items) <= _MAX_NAMES else f"{first} and {len(items) - _MAX_NAMES} more"


def _shown(name: str, value: Value) -> str:
    """Return a value as text for a person."""
    tag, *texts = _read(value)
    if tag == "number":
        return _number((tag, *texts))
    if name == _CATALOG and (sources := _sources(texts[0] if texts else "")):
        return f"with {_enumerated(sources)}"
    return shorten(",".join(texts)) if texts else tag
