"""The message for a query without a fixture: the nearest fixture, and how the query differs from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from mock_server.matching import NormalisedQuery

_MAX_DIFFERENCES: Final = 8
_MAX_LENGTH: Final = 60
_MAX_ITEMS: Final = 3
_TIMES: Final = ("T1", "T2")
_CATALOG: Final = "selected_catalog"
_DEGREES: Final = "deg"
_SPANS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))
_MIN_UNITS: Final = 3.0  # of a unit of time; shorter spans are given in a smaller unit


@dataclass(frozen=True)
class _Difference:
    """A difference in one parameter, and its size from 0 (equal) to 1."""

    text: str
    size: float = 1.0


def explain_miss(
    query: NormalisedQuery,
    fixtures: Iterable[tuple[NormalisedQuery, str]],
    *,
    units: Mapping[str, str | None],
    argument_names: Collection[str],
) -> str:
    """Return the message for a query without a fixture: the nearest fixture, and the differences.

    The nearest fixture differs in the fewest parameters, and then by the least.

    Parameters
    ----------
    query
        As requested.
    fixtures
        The queries of all fixtures, with their paths.
    units
        Units of the parameters of the product.
    argument_names
        Names of the parameters in the request; the others have their defaults.
    """
    product = f"{query.instrument} {query.product}"
    candidates = list(fixtures)
    nearest = [
        (_differences(query, other, units, argument_names), path)
        for other, path in candidates
        if (other.instrument, other.product) == (query.instrument, query.product)
    ]
    if not nearest:
        products = sorted({f"{other.instrument} {other.product}" for other, _ in candidates})
        return f"no fixture for {product}: there are fixtures for {', '.join(products) or 'nothing'}"
    differences, path = min(nearest, key=lambda entry: (len(entry[0]), sum(one.size for one in entry[0])))
    texts = [one.text for one in differences[:_MAX_DIFFERENCES]]
    if len(differences) > _MAX_DIFFERENCES:
        texts.append(f"and {len(differences) - _MAX_DIFFERENCES} more differences")
    return f"no fixture for {product}: the nearest is {path}; in your query {'; '.join(texts)}"


def _differences(
    query: NormalisedQuery, other: NormalisedQuery, units: Mapping[str, str | None], argument_names: Collection[str]
) -> list[_Difference]:
    ours, theirs = dict(query.items()), dict(other.items())
    found = []
    for name in {**ours, **theirs}:
        if ours.get(name) == theirs.get(name):
            continue
        one = query.parameters.get(name, ours.get(name))
        another = other.parameters.get(name, theirs.get(name))
        if name not in theirs:
            found.append(_Difference(f"{name} is given ({_shown(one)})"))
        elif name not in ours or (name == "api" and not one):
            found.append(_Difference(f"{name} is missing"))
        else:
            found.append(_difference(name, one, another, units.get(name)))
            if name in query.parameters and name not in argument_names:
                text = f"{found[-1].text} (it was not given: that is its default)"
                found[-1] = _Difference(text, found[-1].size)
    return found


def _difference(name: str, ours: Any, theirs: Any, unit: str | None) -> _Difference:
    if name in _TIMES:
        return _times(name, str(ours), str(theirs))
    if name == _CATALOG:
        return _catalogs(ours, theirs)
    if isinstance(ours, list) and isinstance(theirs, list):
        return _lists(name, ours, theirs)
    if _is_number(ours) and _is_number(theirs):
        return _numbers(name, ours, theirs, unit)
    return _Difference(f"{name} is {_shown(ours)} and not {_shown(theirs)}")


def _times(name: str, ours: str, theirs: str) -> _Difference:
    try:
        seconds = (datetime.fromisoformat(ours) - datetime.fromisoformat(theirs)).total_seconds()
    except (TypeError, ValueError):
        return _Difference(f"{name} is {_shown(ours)} and not {_shown(theirs)}")
    length = abs(seconds)
    scale, unit = next(((scale, unit) for scale, unit in _SPANS if length >= _MIN_UNITS * scale), (1.0, "s"))
    shown = f"{length / scale:.1f}" if length >= 1 else f"{length:.3g}"
    return _Difference(f"{name} is {shown} {unit} {'later' if seconds > 0 else 'earlier'}", min(length / 86400.0, 1.0))


def _numbers(name: str, ours: float, theirs: float, unit: str | None) -> _Difference:
    size = min(abs(ours - theirs) / max(abs(ours), abs(theirs)), 1.0)
    if unit == _DEGREES:
        comparison = "greater" if ours > theirs else "smaller"
        return _Difference(f"{name} is {abs(ours - theirs):.6g} deg {comparison}", min(abs(ours - theirs) / 180, 1.0))
    return _Difference(f"{name} is {ours:.10g} and not {theirs:.10g}", size)


def _lists(name: str, ours: list[Any], theirs: list[Any]) -> _Difference:
    lacks, besides = ([one for one in first if one not in second] for first, second in ((theirs, ours), (ours, theirs)))
    if not lacks and not besides:
        return _Difference(f"{name} is in another order", 0.0)
    parts = [f"{verb} {_enumerated(members)}" for verb, members in (("lacks", lacks), ("has also", besides)) if members]
    size = (len(lacks) + len(besides)) / (len(ours) + len(theirs))
    return _Difference(f"{name} {' and '.join(parts)}", size)


def _catalogs(ours: Any, theirs: Any) -> _Difference:
    first, second = _sources(ours), _sources(theirs)
    if first is None or second is None or first == second:
        return _Difference(f"{_CATALOG} has the same sources, but other values", 0.1)
    return _lists(_CATALOG, first, second)


def _sources(text: Any) -> list[Any] | None:
    """Return the names of the sources in a catalogue, or None if it has none."""
    try:
        catalog = json.loads(text)
        return list(catalog["cat_column_list"][catalog["cat_column_names"].index("src_names")])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None


def _enumerated(members: list[Any]) -> str:
    text = ", ".join(_shown(member) for member in members[:_MAX_ITEMS])
    return text if len(members) <= _MAX_ITEMS else f"{text} and {len(members) - _MAX_ITEMS} more"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # noqa: PLR0124  # no NaN


def _shown(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}..."
