"""Drift of recorded queries: each is rerun, and its result compared with the recording."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from oda_proxy.capsule.conversion import wire_products
from oda_proxy.compat.answer_repairs import repaired
from oda_proxy.drift.comparison import ProductComparison, Verdict, compare
from oda_proxy.drift.differences import Difference, Tolerance, members
from oda_proxy.drift.rerun import Rerun
from oda_proxy.drift.sources import Unusable
from oda_proxy.errors import OdaProxyError, UpstreamUnreachableError
from oda_proxy.jobs.runtime import new_session
from oda_proxy.query import echo
from oda_proxy.query.query import CLIENT_DEFAULTS
from oda_proxy.recordings.obstacles import rerun_obstacle
from oda_proxy.recordings.recording import redact
from oda_proxy.recordings.redaction import NotStorableError
from oda_proxy.upstream.dispatcher import Dispatcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from oda_proxy.drift.sources import NamedRecording
    from oda_proxy.query.query import Query

_OK = 200


class Outcome(StrEnum):
    """The outcome of the rerun of one recording."""

    SAME = "same"
    DIFFERS = "differs"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Drift:
    """The drift of one recording; `reason` says why it was not compared."""

    name: str
    outcome: Outcome
    reason: str = ""
    products: tuple[ProductComparison, ...] = ()
    parameters: tuple[Difference, ...] = ()
    """Differences of the parameters that the dispatcher reports to have used."""

    @property
    def has_same_arrays(self) -> bool:
        """Whether all arrays of all products are the same."""
        return all(product.has_same_arrays for product in self.products)


async def drifts(
    recordings: Iterable[NamedRecording | Unusable],
    url: str,
    tolerance: Tolerance,
    *,
    on_progress: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[Drift]:
    """Rerun recordings, one after the other, at the dispatcher with the given URL.

    `clock` returns s, `sleep` takes s; `on_progress` receives a line of text. Raises UpstreamUnreachableError if the
    dispatcher never responds.
    """
    async with Dispatcher(url) as dispatcher:
        rerun = Rerun(dispatcher, new_session(), clock=clock, sleep=sleep)
        for one in recordings:
            if isinstance(one, Unusable):
                yield Drift(one.name, Outcome.SKIPPED, one.reason)
                continue
            with closing(one.recording.head):
                yield await drift_of(one, rerun, tolerance, on_progress)


async def drift_of(
    one: NamedRecording, rerun: Rerun, tolerance: Tolerance, on_progress: Callable[[str], None]
) -> Drift:
    """Rerun one recording and compare. Raises UpstreamUnreachableError if the dispatcher never responded."""
    if one.recording.private:
        return Drift(one.name, Outcome.SKIPPED, "it was requested with a token, and no token is sent")
    if one.recording.query is None:
        return Drift(one.name, Outcome.SKIPPED, "its query is unknown")
    query = one.recording.query
    if reason := rerun_obstacle(query):
        return Drift(one.name, Outcome.SKIPPED, reason)
    on_progress(one.name)
    try:
        result = await rerun.run(query, on_progress=lambda text: on_progress(f"{one.name}: {text}"))
        current = redact(
            repaired(result.body, _OK, rerun.envelope), rerun.envelope, key=one.recording.key, stored_at=0.0
        )
        products = compare(wire_products(one.recording), wire_products(current), tolerance)
        parameters = tuple(_parameters(one, query, current.echo, tolerance))
    except UpstreamUnreachableError:
        raise
    except NotStorableError as error:
        return Drift(one.name, Outcome.FAILED, f"the response cannot be recorded: {error}")
    except OdaProxyError as error:
        return Drift(one.name, Outcome.FAILED, str(error))
    differs = bool(parameters) or any(product.verdict is not Verdict.SAME for product in products)
    return Drift(one.name, Outcome.DIFFERS if differs else Outcome.SAME, "", tuple(products), parameters)


def _parameters(
    one: NamedRecording, query: Query, current: Mapping[str, Any], tolerance: Tolerance
) -> list[Difference]:
    """Compare the echo of the dispatcher with the recorded echo, or else with the query."""
    if one.has_echo:
        was, now = (
            {name: value for name, value in parameters.items() if name not in CLIENT_DEFAULTS}
            for parameters in (one.recording.echo, current)
        )
        return list(members("", was, now, tolerance))
    requested = dict(query.parameters)
    return [
        Difference(
            name,
            f"requested {', '.join(requested.get(name, ()))}, used {current[name]}",
            was=", ".join(requested.get(name, ())),
            now=current[name],
        )
        for name in echo.contradictions(query, None, current)
    ]
