"""Which fixture is nearest to a query that has none, and what differs, in an astronomer's words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from mock_server.matching import Question

_MOST_TOLD: Final = 8
_LONGEST: Final = 60
_NAMES_TOLD: Final = 3
_TIMES: Final = ("T1", "T2")
_CATALOG: Final = "selected_catalog"
_DEGREES: Final = "deg"
_SPANS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))
_FEW: Final = 3.0  # of a unit of time; less is told in a smaller one


@dataclass(frozen=True)
class _Difference:
    """What differs in one parameter, and how much: 0 is nothing, 1 is altogether."""

    told: str
    size: float = 1.0


def explain_miss(
    question: Question,
    known: Iterable[tuple[Question, str]],
    *,
    units: Mapping[str, str | None],
    given: Collection[str],
) -> str:
    """Say that no fixture answers a query, which one is nearest, and how the query differs from it.

    Near is what differs in the fewest parameters; of several, what differs least in them.

    Parameters
    ----------
    question
        What was asked.
    known
        The questions that are answered, with the paths of their fixtures.
    units
        Of the parameters of the product.
    given
        Names of the parameters that the request had; others have their defaults.
    """
    asked = f"{question.instrument} {question.product}"
    questions = list(known)
    near = [
        (_differences(question, other, units, given), path)
        for other, path in questions
        if (other.instrument, other.product) == (question.instrument, question.product)
    ]
    if not near:
        products = sorted({f"{other.instrument} {other.product}" for other, _ in questions})
        return f"no fixture for {asked}: there are fixtures for {', '.join(products) or 'nothing'}"
    differences, path = min(near, key=lambda entry: (len(entry[0]), sum(one.size for one in entry[0])))
    told = [one.told for one in differences[:_MOST_TOLD]]
    if len(differences) > _MOST_TOLD:
        told.append(f"and {len(differences) - _MOST_TOLD} more differences")
    return f"no fixture for {asked}: the nearest is {path}; in your query {'; '.join(told)}"


def _differences(
    question: Question, other: Question, units: Mapping[str, str | None], given: Collection[str]
) -> list[_Difference]:
    here, there = dict(question.facts()), dict(other.facts())
    found = []
    for name in {**here, **there}:
        if here.get(name) == there.get(name):
            continue
        one = question.parameters.get(name, here.get(name))
        another = other.parameters.get(name, there.get(name))
        if name not in there:
            found.append(_Difference(f"{name} is given ({_shown(one)})"))
        elif name not in here or (name == "api" and not one):
            found.append(_Difference(f"{name} is missing"))
        else:
            found.append(_difference(name, one, another, units.get(name)))
            if name in question.parameters and name not in given:
                told = f"{found[-1].told} (it was not given: that is its default)"
                found[-1] = _Difference(told, found[-1].size)
    return found


def _difference(name: str, here: Any, there: Any, unit: str | None) -> _Difference:
    if name in _TIMES:
        return _times(name, str(here), str(there))
    if name == _CATALOG:
        return _catalogs(here, there)
    if isinstance(here, list) and isinstance(there, list):
        return _lists(name, here, there)
    if _is_number(here) and _is_number(there):
        return _numbers(name, here, there, unit)
    return _Difference(f"{name} is {_shown(here)} and not {_shown(there)}")


def _times(name: str, here: str, there: str) -> _Difference:
    try:
        seconds = (datetime.fromisoformat(here) - datetime.fromisoformat(there)).total_seconds()
    except (TypeError, ValueError):
        return _Difference(f"{name} is {_shown(here)} and not {_shown(there)}")
    length = abs(seconds)
    scale, unit = next(((scale, unit) for scale, unit in _SPANS if length >= _FEW * scale), (1.0, "s"))
    shown = f"{length / scale:.1f}" if length >= 1 else f"{length:.3g}"
    return _Difference(f"{name} is {shown} {unit} {'later' if seconds > 0 else 'earlier'}", min(length / 86400.0, 1.0))


def _numbers(name: str, here: float, there: float, unit: str | None) -> _Difference:
    size = min(abs(here - there) / max(abs(here), abs(there)), 1.0)
    if unit == _DEGREES:
        comparison = "greater" if here > there else "smaller"
        return _Difference(f"{name} is {abs(here - there):.6g} deg {comparison}", min(abs(here - there) / 180, 1.0))
    return _Difference(f"{name} is {here:.10g} and not {there:.10g}", size)


def _lists(name: str, here: list[Any], there: list[Any]) -> _Difference:
    lacks, besides = ([one for one in first if one not in second] for first, second in ((there, here), (here, there)))
    if not lacks and not besides:
        return _Difference(f"{name} is in another order", 0.0)
    parts = [f"{verb} {_enumerated(members)}" for verb, members in (("lacks", lacks), ("has also", besides)) if members]
    size = (len(lacks) + len(besides)) / (len(here) + len(there))
    return _Difference(f"{name} {' and '.join(parts)}", size)


def _catalogs(here: Any, there: Any) -> _Difference:
    first, second = _sources(here), _sources(there)
    if first is None or second is None or first == second:
        return _Difference(f"{_CATALOG} has the same sources, but other values", 0.1)
    return _lists(_CATALOG, first, second)


def _sources(text: Any) -> list[Any] | None:
    """Name the sources of a catalogue; None where it does not."""
    try:
        catalog = json.loads(text)
        return list(catalog["cat_column_list"][catalog["cat_column_names"].index("src_names")])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None


def _enumerated(members: list[Any]) -> str:
    told = ", ".join(_shown(member) for member in members[:_NAMES_TOLD])
    return told if len(members) <= _NAMES_TOLD else f"{told} and {len(members) - _NAMES_TOLD} more"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # noqa: PLR0124  # no NaN


def _shown(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
