"""The command `diff`: whether a dispatcher still returns what a capsule, or a folder of fixtures, holds."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

from oda_proxy.commands.formatting import number, plain
from oda_proxy.commands.output import print_json, print_lines
from oda_proxy.commands.source_folder import is_capsule
from oda_proxy.drift.comparison import Verdict
from oda_proxy.drift.differences import Tolerance
from oda_proxy.drift.drifts import Outcome, drifts
from oda_proxy.drift.sources import recordings_in
from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from oda_proxy.drift.differences import Difference
    from oda_proxy.drift.drifts import Drift
    from oda_proxy.drift.sources import NamedRecording, Unusable

_INDENT = " " * 9
_ERASE = "\x1b[K"


def diff(
    folder: Path, *, upstream: str | None, rtol: float, atol: float, ignored: Collection[str], as_json: bool
) -> int:
    """Rerun all recordings in a folder, and print what differs; the exit status is 1 if one differs or fails.

    Each is sent to `upstream`, or to the dispatcher that was recorded. Raises UsageError if neither is known,
    UpstreamUnreachableError if the dispatcher never responds.
    """
    is_capsule(folder)  # names a folder that cannot be read
    results: list[Drift] = []

    async def rerun(recordings: Iterable[NamedRecording | Unusable], url: str) -> None:
        tolerance = Tolerance(rtol, atol, frozenset(ignored))
        async for drift in drifts(recordings, url, tolerance, on_progress=progress.show):
            results.append(drift)
            progress.clear()
            print_lines([] if as_json else _lines(drift))

    with closing(Progress()) as progress:
        for url, recordings in recordings_in(folder):
            if not (address := upstream or url):
                raise UsageError(f"{folder} does not name the dispatcher that was recorded: use --upstream")
            asyncio.run(rerun(recordings, address))
    counts = Counter(drift.outcome for drift in results)
    if as_json:
        by_outcome = {outcome: counts[outcome] for outcome in Outcome}
        print_json({**by_outcome, "recordings": [_drift_json(drift) for drift in results]})
    else:
        summary = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome])
        print_lines([f"{number(len(results), 'recording')}: {summary}" if results else "there are no recordings"])
    return 1 if counts[Outcome.DIFFERS] or counts[Outcome.FAILED] else 0


def _lines(drift: Drift) -> Iterator[str]:
    yield plain(f"{drift.outcome:<8} {drift.name}{f': {drift.reason}' if drift.reason else ''}")
    for product in drift.products:
        if product.verdict in {Verdict.NEW, Verdict.GONE}:
            yield plain(f"{_INDENT}{product.name} is {product.verdict}")
        for difference in product.differences:
            yield plain(f"{_INDENT}{product.name}: {difference}")
    for difference in drift.parameters:
        yield plain(f"{_INDENT}parameter {difference}")


def _drift_json(drift: Drift) -> dict[str, Any]:
    return {
        "name": drift.name,
        "outcome": drift.outcome,
        "reason": drift.reason,
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
    return {
        "where": difference.where,
        "said": difference.text,
        "absolute": difference.absolute,
        "relative": difference.relative,
    }


class Progress:
    """A status line on a terminal; nothing if standard error is none."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Replace the line."""
        self._write(f"\r{_ERASE}{plain(text)}")

    def clear(self) -> None:
        """Erase the line."""
        self._write(f"\r{_ERASE}")

    close = clear

    def _write(self, text: str) -> None:
        if self._is_shown:
            print(text, end="", file=sys.stderr, flush=True)  # noqa: T201 - the status line
