"""The command `diff`: whether a dispatcher still returns what a capsule, or a folder of fixtures, holds."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections import Counter, defaultdict
from contextlib import closing
from typing import TYPE_CHECKING, Any

from oda_proxy.capsule.source_folder import is_capsule
from oda_proxy.commands.formatting import number
from oda_proxy.commands.output import print_json, print_lines
from oda_proxy.drift.comparison import Verdict
from oda_proxy.drift.differences import Tolerance
from oda_proxy.drift.drifts import Outcome, drifts
from oda_proxy.drift.sources import recordings_in
from oda_proxy.errors import OdaProxyError, UsageError
from oda_proxy.files.archives import open_tree
from oda_proxy.query.message_text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from oda_proxy.drift.differences import Difference
    from oda_proxy.drift.drifts import Drift
    from oda_proxy.drift.sources import NamedRecording, Unusable

_INDENT = " " * 9
_ERASE = "\x1b[K"


def diff(
    folder: Path, *, upstream: str | None, rtol: float, atol: float, ignored: Collection[str], as_json: bool
) -> int:
    """Rerun all recordings of a folder or an archive, and print what differs; the exit status is 1 if any does.

    Each is sent to `upstream`, or to the dispatcher that was recorded. Raises UsageError if neither is known,
    UpstreamUnreachableError if the dispatcher never responds.
    """
    results: list[Drift] = []

    async def rerun(recordings: Iterable[NamedRecording | Unusable], url: str) -> None:
        tolerance = Tolerance(rtol, atol, frozenset(ignored))
        async for drift in drifts(recordings, url, tolerance, on_progress=progress.show):
            results.append(drift)  # noqa: PERF401 - each is kept if a later one fails

    try:
        with closing(Progress()) as progress, open_tree(folder) as tree:
            is_capsule(tree)  # names a folder that cannot be read
            for url, recordings in recordings_in(tree):
                if not (address := upstream or url):
                    raise UsageError(f"{folder} does not name the dispatcher that was recorded: use --upstream")
                asyncio.run(rerun(recordings, address))
    except (KeyboardInterrupt, OdaProxyError):
        if results:
            _report(results, as_json=as_json)
        raise
    _report(results, as_json=as_json)
    return 1 if any(drift.outcome in {Outcome.DIFFERS, Outcome.FAILED} for drift in results) else 0


def _report(results: Sequence[Drift], *, as_json: bool) -> None:
    counts = Counter(drift.outcome for drift in results)
    if as_json:
        by_outcome = {outcome: counts[outcome] for outcome in Outcome}
        same_arrays = all(drift.has_same_arrays for drift in results if drift.outcome in _COMPARED)
        recordings = [drift_json(drift) for drift in results]
        print_json({**by_outcome, "same_arrays": same_arrays, "recordings": recordings})
        return
    print_lines([_arrays_line(results)])
    repeated = _repeated(results)
    for drift in results:
        print_lines(_lines(drift, repeated))
    print_lines(printable(f"in {number(len(places), 'place')}: {text}") for text, places in repeated.items())
    summary = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome])
    print_lines([f"{number(len(results), 'recording')}: {summary}" if results else "there are no recordings"])


_COMPARED = frozenset({Outcome.SAME, Outcome.DIFFERS})
_REPEATED = 3
"""Number of places from which on a difference is printed once for all of them."""


def _arrays_line(results: Sequence[Drift]) -> str:
    """Say whether all arrays are the same."""
    compared = [drift for drift in results if drift.outcome in _COMPARED]
    differing = [drift for drift in compared if not drift.has_same_arrays]
    if not compared:
        return "arrays: none was compared"
    if differing:
        return f"arrays: different in {len(differing)} of {number(len(compared), 'recording')}"
    return f"arrays: all the same, in {number(len(compared), 'recording')}"


def _repeated(results: Sequence[Drift]) -> dict[str, list[tuple[str, str, str]]]:
    """Return the differences that are the same in several places, such as a card of all light curves, by their text."""
    places: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for drift in results:
        for product in drift.products:
            for difference in product.differences:
                places[_text(difference)].append((drift.name, product.name, difference.where))
        for difference in drift.parameters:
            places[f"parameter {difference}"].append((drift.name, "", difference.where))
    return {text: where for text, where in places.items() if len(where) >= _REPEATED}


def _text(difference: Difference) -> str:
    """Return a difference without its data unit."""
    what = difference.where.rpartition(", ")[2]
    return f"{what}: {difference.text}" if what else difference.text


def _lines(drift: Drift, repeated: Collection[str]) -> Iterator[str]:
    yield printable(f"{drift.outcome:<8} {drift.name}{f': {drift.reason}' if drift.reason else ''}")
    for product in drift.products:
        if product.verdict in {Verdict.NEW, Verdict.GONE}:
            yield printable(f"{_INDENT}{product.name} is {product.verdict}")
        for difference in product.differences:
            if _text(difference) not in repeated:
                yield printable(f"{_INDENT}{product.name}: {difference}")
    for difference in drift.parameters:
        if f"parameter {difference}" not in repeated:
            yield printable(f"{_INDENT}parameter {difference}")


def print_drift(drift: Drift, *, as_json: bool) -> None:
    """Print what differs between two recordings."""
    if as_json:
        print_json(drift_json(drift))
    else:
        print_lines(_lines(drift, ()))


def drift_json(drift: Drift) -> dict[str, Any]:
    """Return what differs between two recordings as JSON."""
    return {
        "name": drift.name,
        "outcome": drift.outcome,
        "reason": drift.reason,
        "same_arrays": drift.has_same_arrays,
        "products": [
            {
                "name": product.name,
                "verdict": product.verdict,
                "differences": [_difference_json(one) for one in product.differences],
            }
            for product in drift.products
        ],
        "parameters": [_difference_json(one) for one in drift.parameters],
    }


def _difference_json(difference: Difference) -> dict[str, Any]:
    """Return a difference with the values; NaN and infinities, which JSON does not have, are texts."""
    return {
        "where": difference.where,
        "said": difference.text,
        "absolute": difference.absolute,
        "relative": difference.relative,
        "was": _value_json(difference.was),
        "is": _value_json(difference.now),
        "count": difference.count,
        "of": difference.size,
    }


def _value_json(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case bytes():
            return value.decode("latin-1")
        case None | bool() | int() | float() | str():
            return value
        case dict() | list():
            return json.loads(json.dumps(value, default=str))
    return str(value)


class Progress:
    """A status line on a terminal; nothing if standard error is none."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Replace the line."""
        self._write(f"\r{_ERASE}{printable(text)}")

    def clear(self) -> None:
        """Erase the line."""
        self._write(f"\r{_ERASE}")

    close = clear

    def _write(self, text: str) -> None:
        if self._is_shown:
            print(text, end="", file=sys.stderr, flush=True)  # noqa: T201 - the status line
