"""Run of planned queries through a proxy, several at a time."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from oda_proxy.drift.rerun import NotSubmittedError, Rerun, RerunFailedError
from oda_proxy.errors import OdaProxyError, UpstreamUnreachableError
from oda_proxy.http import headers
from oda_proxy.http.message import Request
from oda_proxy.jobs.runtime import new_session
from oda_proxy.warming.plan import Skipped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from oda_proxy.drift.rerun import Result
    from oda_proxy.http.message import Upstream
    from oda_proxy.query.query import Token
    from oda_proxy.warming.plan import PlannedQuery

MAX_PAUSE: Final = 30.0
ATTEMPTS: Final = 24
"""Attempts to submit a query to a proxy that does not answer: it may be restarted, within some ten minutes."""
START_TIMEOUT: Final = 30.0
"""Seconds that a proxy has to respond to the first request."""


class Outcome(StrEnum):
    """What became of a planned query."""

    STORED = "stored"
    """It was computed, and there is a recording now."""
    PRESENT = "present"
    """There was a recording."""
    MISSING = "missing"
    """There is no recording, in a dry run."""
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Warmed:
    """What became of a planned query; `reason` says why it failed or was skipped. It took `duration` s."""

    name: str
    outcome: Outcome
    reason: str = ""
    duration: float = 0.0


class Reporter(Protocol):
    """Shows what is done while it is done."""

    def started(self, number: int, name: str) -> None:
        """Show that the query with this number, from 0 on, is run."""

    def progress(self, number: int, text: str) -> None:
        """Show the state of its job."""

    def ended(self, number: int, warmed: Warmed) -> None:
        """Show what became of it."""


class NoProxyError(OdaProxyError):
    """No proxy answers at an address."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"no oda-proxy answers at {url}: {reason}; name the address of one with --server")


async def warm(
    planned: Sequence[PlannedQuery | Skipped],
    proxy: Upstream,
    reporter: Reporter,
    *,
    parallel: int,
    token: Token | None = None,
    dry_run: bool = False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Run planned queries through a proxy, `parallel` at a time, in their order, and report each.

    In a `dry_run` the proxy is asked only whether it has the recordings. `clock` returns s, `sleep` takes s. Raises
    NoProxyError where no proxy answers, or none any more.
    """
    await _check(proxy)
    rerun = Rerun(proxy, new_session(), clock=clock, sleep=sleep, uses_recordings=True, token=token)
    again = Rerun(proxy, new_session(), clock=clock, sleep=sleep, token=token)
    remaining = iter(enumerate(planned))

    async def run_some() -> None:
        for number, one in remaining:
            if isinstance(one, Skipped):
                reporter.ended(number, Warmed(one.name, Outcome.SKIPPED, one.reason))
                continue
            reporter.started(number, one.name)
            started_at = clock()
            if dry_run:
                warmed = await _look_up(one, rerun)
            else:
                on_progress = partial(reporter.progress, number)
                warmed = await _run(one, again if one.refresh else rerun, rerun, on_progress, sleep)
            reporter.ended(number, replace(warmed, duration=clock() - started_at))

    tasks = [asyncio.create_task(run_some()) for _ in range(parallel)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


async def _check(proxy: Upstream) -> None:
    """Check that a proxy answers: a dispatcher would compute everything, and store nothing. Raises NoProxyError."""
    try:
        reply = await proxy.send(Request("GET", "/-/livez", timeout=START_TIMEOUT))
        await reply.body.aclose()
    except UpstreamUnreachableError as error:
        raise NoProxyError(proxy.url, error.reason) from error
    if not any(value.startswith("oda-proxy") for value in headers.values(reply.headers, "cache-status")):
        raise NoProxyError(proxy.url, "another program does")


async def _run(
    one: PlannedQuery,
    rerun: Rerun,
    lookup: Rerun,
    on_progress: Callable[[str], None],
    sleep: Callable[[float], Awaitable[None]],
) -> Warmed:
    """Run a query, and see whether there is a recording then: another process on the same folder may have stored it.

    Raises NoProxyError where the proxy does not answer any more.
    """
    try:
        result = await _submit(one, rerun, on_progress, sleep)
        is_stored = _is_stored(result) or await lookup.has_recording(one.query)
    except RerunFailedError as error:
        return Warmed(one.name, Outcome.FAILED, str(error))
    except UpstreamUnreachableError as error:
        return Warmed(one.name, Outcome.FAILED, error.reason)
    if result.cache_status.hit:
        return Warmed(one.name, Outcome.PRESENT)
    if is_stored:
        return Warmed(one.name, Outcome.STORED)
    detail = result.cache_status.detail or "no reason given"
    return Warmed(one.name, Outcome.FAILED, f"it was computed, and the proxy did not store the result ({detail})")


async def _submit(
    one: PlannedQuery,
    rerun: Rerun,
    on_progress: Callable[[str], None],
    sleep: Callable[[float], Awaitable[None]],
) -> Result:
    """Run a query, and submit it again while the proxy does not answer. Raises RerunFailedError and NoProxyError."""
    for attempt in range(ATTEMPTS):
        try:
            return await rerun.run(one.query, on_progress=on_progress)
        except (NotSubmittedError, UpstreamUnreachableError) as error:
            reason = str(error)
            on_progress("the proxy does not answer")
            await sleep(min(2.0**attempt, MAX_PAUSE))
    raise NoProxyError(rerun.url, f"it answered before, and then {ATTEMPTS} times not ({reason})")


def _is_stored(result: Result) -> bool:
    status = result.cache_status
    return status.hit or status.stored


async def _look_up(one: PlannedQuery, rerun: Rerun) -> Warmed:
    """Return whether a proxy has a recording, and would use it."""
    try:
        is_there = not one.refresh and await rerun.has_recording(one.query)
    except UpstreamUnreachableError as error:
        return Warmed(one.name, Outcome.FAILED, error.reason)
    return Warmed(one.name, Outcome.PRESENT if is_there else Outcome.MISSING)
