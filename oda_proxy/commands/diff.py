"""Whether a dispatcher still answers as it did when a capsule, or a folder of fixtures, was recorded."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from oda_proxy.capsule import capsule
from oda_proxy.capsule.conversion import NoFixtureError, products_of, to_recording
from oda_proxy.commands.formatting import SHORT, number, plain
from oda_proxy.commands.output import say, say_json
from oda_proxy.compat.repairs import repaired
from oda_proxy.drift.comparison import Compared, Verdict, compare
from oda_proxy.drift.measure import Difference, Tolerance, members
from oda_proxy.drift.rerun import Rerun, why_not
from oda_proxy.errors import OdaProxyError, UpstreamUnreachableError, UsageError
from oda_proxy.fixture.json_files import MANIFEST
from oda_proxy.fixture.reading import open_folder
from oda_proxy.jobs.runtime import new_session
from oda_proxy.query import echo
from oda_proxy.query.query import CLIENT_DEFAULTS
from oda_proxy.recordings.recording import redact
from oda_proxy.recordings.redaction import NotStorableError
from oda_proxy.upstream.dispatcher import Dispatcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from oda_proxy.capsule.capsule import DispatcherCapsule
    from oda_proxy.fixture.reading import Fixture
    from oda_proxy.query.query import Query
    from oda_proxy.recordings.recording import Recording

_OK = 200


class Outcome(StrEnum):
    """What came of asking anew for a recording."""

    SAME = "same"
    DIFFERS = "differs"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Drift:
    """What came of one recording; where it was not compared, why."""

    name: str
    outcome: Outcome
    reason: str = ""
    products: tuple[Compared, ...] = ()
    parameters: tuple[Difference, ...] = ()
    """What the dispatcher says of the parameters that it used."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording, how a person knows it, and whether it has the dispatcher's own echo of the request."""

    name: str
    recording: Recording
    has_echo: bool


def diff(
    folder: Path, *, upstream: str | None, rtol: float, atol: float, ignored: Collection[str], as_json: bool
) -> int:
    """Ask anew for every recording in a folder, and say what differs; end with 1 where something does, or fails.

    Each is asked of `upstream`, or of the dispatcher that it was recorded from. Raises UsageError where neither is
    known, UpstreamUnreachableError where a dispatcher does not answer at all.
    """
    found: list[Drift] = []

    async def ask(recorded: Iterable[Recorded | Drift], address: str) -> None:
        async for one in drifts(recorded, address, Tolerance(rtol, atol, frozenset(ignored)), tell=progress.tell):
            found.append(one)
            progress.clear()
            say([] if as_json else _lines(one))

    with closing(Progress()) as progress:
        for url, recorded in recorded_in(folder):
            if not (address := upstream or url):
                raise UsageError(f"{folder} does not say which dispatcher it was recorded from: name one by --upstream")
            asyncio.run(ask(recorded, address))
    counted = Counter(one.outcome for one in found)
    if as_json:
        say_json({**{outcome: counted[outcome] for outcome in Outcome}, "recordings": [asdict(one) for one in found]})
    else:
        told = ", ".join(f"{counted[outcome]} {outcome}" for outcome in Outcome if counted[outcome])
        say([f"{number(len(found), 'recording')}: {told}" if found else "there are no recordings"])
    return 1 if counted[Outcome.DIFFERS] or counted[Outcome.FAILED] else 0


async def drifts(
    recorded: Iterable[Recorded | Drift],
    url: str,
    tolerance: Tolerance,
    *,
    tell: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[Drift]:
    """Ask the dispatcher at an address for each recording, one after the other, and give what came of it.

    `clock` gives s, `sleep` waits for some; `tell` is told what is being done. Raises UpstreamUnreachableError where
    the dispatcher does not answer at all.
    """
    async with Dispatcher(url) as dispatcher:
        asking = Rerun(dispatcher, new_session(), clock=clock, sleep=sleep)
        for one in recorded:
            if isinstance(one, Drift):
                yield one
                continue
            with closing(one.recording.head):
                yield await drift_of(one, asking, tolerance, tell)


async def drift_of(one: Recorded, asking: Rerun, tolerance: Tolerance, tell: Callable[[str], None]) -> Drift:
    """Ask anew for one recording. Raises UpstreamUnreachableError where nobody has ever answered."""
    if one.recording.private:
        return Drift(one.name, Outcome.SKIPPED, "it was asked for with a token, and none is sent")
    if one.recording.query is None:
        return Drift(one.name, Outcome.SKIPPED, "what was asked is not known")
    query = one.recording.query
    if reason := why_not(query):
        return Drift(one.name, Outcome.SKIPPED, reason)
    tell(one.name)
    try:
        body = await asking.ask(query, tell=lambda stands: tell(f"{one.name}: {stands}"))
        anew = redact(repaired(body, _OK, asking.envelope), asking.envelope, key=one.recording.key, stored_at=0.0)
        products = compare(products_of(one.recording), products_of(anew), tolerance)
        said = tuple(_parameters(one, query, anew.echo, tolerance))
    except UpstreamUnreachableError:
        raise
    except NotStorableError as error:
        return Drift(one.name, Outcome.FAILED, f"the answer is none of which a recording could be made: {error}")
    except OdaProxyError as error:
        return Drift(one.name, Outcome.FAILED, str(error))
    differs = bool(said) or any(product.verdict is not Verdict.SAME for product in products)
    return Drift(one.name, Outcome.DIFFERS if differs else Outcome.SAME, "", tuple(products), said)


def _parameters(one: Recorded, query: Query, now: Mapping[str, Any], tolerance: Tolerance) -> list[Difference]:
    """Compare what the dispatcher says that it used with what it said then, or else with what is asked."""
    if one.has_echo:
        was, used = (
            {name: value for name, value in said.items() if name not in CLIENT_DEFAULTS}
            for said in (one.recording.echo, now)
        )
        return list(members("", was, used, tolerance))
    words = dict(query.parameters)
    return [
        Difference(name, f"asked for {', '.join(words.get(name, ()))}, used {now[name]}")
        for name in echo.contradictions(query, None, now)
    ]


# -- what was recorded -----------------------------------------------------------------------------


def recorded_in(folder: Path) -> list[tuple[str, Iterable[Recorded | Drift]]]:
    """Give what was recorded of each dispatcher, with its address, which is empty where it is not known.

    Raises FixtureError where the folder is neither a capsule nor a folder of fixtures.
    """
    if capsule.is_capsule(folder):
        return [(one.url, _of_capsule(one)) for one in capsule.open_capsule(folder).dispatchers]
    if not (folder / MANIFEST).exists():
        raise capsule.NoCapsuleError(folder)
    by_source: dict[str, list[Fixture]] = {}
    for one in open_folder(folder).fixtures:
        source = str(one.origin.get("source", "")) if one.origin.get("kind") == "recorded" else ""
        by_source.setdefault(source if source.startswith(("http://", "https://")) else "", []).append(one)
    return [(url, _of_fixtures(several)) for url, several in by_source.items()]


def _of_capsule(dispatcher: DispatcherCapsule) -> Iterator[Recorded | Drift]:
    for recording in dispatcher.recordings():
        query = recording.query
        asked = f"{query.instrument} {query.product_type} " if query else ""
        yield Recorded(f"{asked}{recording.key[:SHORT]}", recording, has_echo=True)


def _of_fixtures(fixtures: Iterable[Fixture]) -> Iterator[Recorded | Drift]:
    for one in fixtures:
        try:
            recording = to_recording(one, now=0.0)
            yield Recorded(one.path, recording, has_echo=one.answer().recorded is not None)
        except NoFixtureError as error:
            yield Drift(one.path, Outcome.SKIPPED, str(error))


# -- saying it -------------------------------------------------------------------------------------


def _lines(one: Drift) -> Iterator[str]:
    yield plain(f"{one.outcome:<8} {one.name}{f': {one.reason}' if one.reason else ''}")
    for product in one.products:
        if product.verdict in {Verdict.NEW, Verdict.GONE}:
            yield plain(f"{_INDENT}{product.name} is {product.verdict}")
        for difference in product.differences:
            yield plain(f"{_INDENT}{product.name}: {difference}")
    for difference in one.parameters:
        yield plain(f"{_INDENT}parameter {difference}")


_INDENT = " " * 9


class Progress:
    """One line on a terminal that says what is being done; nothing where standard error is none."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()

    def tell(self, text: str) -> None:
        """Replace the line."""
        self._write(f"\r{_ERASE}{plain(text)}")

    def clear(self) -> None:
        """Make place for other lines."""
        self._write(f"\r{_ERASE}")

    close = clear

    def _write(self, text: str) -> None:
        if self._is_shown:
            print(text, end="", file=sys.stderr, flush=True)  # noqa: T201 - for the person who waits


_ERASE = "\x1b[K"
