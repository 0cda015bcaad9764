"""The command `warm`: runs queries ahead of the clients who will send them, through a proxy."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from oda_proxy.commands import formatting
from oda_proxy.commands.open_store import open_store
from oda_proxy.commands.output import print_json, print_lines, warn
from oda_proxy.commands.warm_progress import line_of, showing
from oda_proxy.config.options import SERVE
from oda_proxy.config.settings import ServeOptions, StoreOptions
from oda_proxy.errors import OdaProxyError, UsageError
from oda_proxy.query.message_text import printable
from oda_proxy.query.query import Token
from oda_proxy.store.freshness import Freshness
from oda_proxy.upstream.dispatcher import Dispatcher
from oda_proxy.warming.plan import read_plan
from oda_proxy.warming.selection import StoreSelection
from oda_proxy.warming.warm import Outcome
from oda_proxy.warming.warm import warm as warm_through

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from oda_proxy.commands.warm_progress import Lines
    from oda_proxy.warming.plan import PlannedQuery, Skipped
    from oda_proxy.warming.warm import Warmed

TOKEN = "ODA_TOKEN"  # noqa: S105 - the name of a variable
_HOST = "127.0.0.1"
_REFRESH = 0.2
"""Seconds between two refreshes of what a terminal shows."""
_AGAIN = "the same command again runs what is missing"
_MAX_FAILURES = 20
"""Failures that are repeated in the summary."""


def warm(
    *,
    plan: Path | None,
    last_used: int | None,
    expiring_within: float | None,
    parallel: int,
    with_token: bool,
    dry_run: bool,
    as_json: bool,
    server: str | None,
    **options: Any,
) -> int:
    """Run planned queries, and print what became of each; the exit status is 1 if one failed.

    They are sent to the proxy `server`, or to one in this process on the same recordings. `options` are those of
    `config.options.WARM`. Raises UsageError, and NoProxyError.
    """
    logging.basicConfig(format="oda-proxy: %(message)s", level=logging.WARNING, stream=sys.stderr)
    token = _token(os.environ) if with_token else None
    planned = _planned(plan, StoreSelection(last_used, expiring_within), options)

    async def run(progress: Lines) -> None:
        async with _refreshing(progress), _proxy(server, options) as url, Dispatcher(url) as proxy:
            await warm_through(planned, proxy, progress, parallel=parallel, token=token, dry_run=dry_run)

    started_at = time.monotonic()
    with showing(len(planned), is_silent=as_json) as progress:
        failure: KeyboardInterrupt | OdaProxyError | None = None
        try:
            if planned:
                asyncio.run(run(progress))
        except (KeyboardInterrupt, OdaProxyError) as error:
            failure = error
    results = list(progress.warmed.values())
    if isinstance(failure, OdaProxyError) and not results:
        raise failure
    if as_json:
        print_json(_json(results, len(planned)))
    else:
        print_lines(_summary(results, len(planned), time.monotonic() - started_at, dry_run=dry_run))
    if failure is not None:
        warn(f"{'ended' if isinstance(failure, OdaProxyError) else 'interrupted'}; {_AGAIN}")
        raise failure
    return 1 if any(one.outcome is Outcome.FAILED for one in results) else 0


def _token(environ: Mapping[str, str]) -> Token:
    text = environ.get(TOKEN, "").strip()
    if not text:
        raise UsageError(f"--with-token sends the token in {TOKEN}, which is not set")
    return Token(text)


def _planned(
    plan: Path | None, selection: StoreSelection, options: Mapping[str, Any]
) -> Sequence[PlannedQuery | Skipped]:
    """Return the queries of a plan, or those that are selected in a store. Raises UsageError."""
    if (plan is None) == (selection == StoreSelection()):
        raise UsageError("name a PLAN, or select recordings with --last-used or --expiring-within, and not both")
    if plan is not None:
        return read_plan(plan)
    where = StoreOptions(**{name: options[name] for name in ("upstream", "former_url", "cache_dir", "store")})
    with open_store(where) as store:
        return list(selection.queries(store, Freshness(options["lifetime"]), time.time()))


@asynccontextmanager
async def _proxy(server: str | None, options: Mapping[str, Any]) -> AsyncIterator[str]:
    """Yield the URL of the proxy: of a server, or of one in this process until the block ends."""
    if server is not None:
        yield server
        return
    from oda_proxy.servers.one_process import proxy_listening

    defaults = {option.name.replace("-", "_"): option.default for option in SERVE}
    values = {**defaults, **options, "host": _HOST, "port": 0, "memory": 0}
    async with proxy_listening(ServeOptions(**values)) as url:
        yield url


@asynccontextmanager
async def _refreshing(progress: Lines) -> AsyncIterator[None]:
    """Refresh what is shown until the block ends."""

    async def refresh() -> None:
        while True:
            progress.refresh()
            await asyncio.sleep(_REFRESH)

    task = asyncio.create_task(refresh())
    try:
        yield
    finally:
        task.cancel()


def _summary(results: Sequence[Warmed], total: int, duration: float, *, dry_run: bool) -> list[str]:
    counts = Counter(one.outcome for one in results)
    failures = [line_of(one) for one in results if one.outcome is Outcome.FAILED]
    lines = [f"  {line}" for line in failures[:_MAX_FAILURES]]
    if len(failures) > _MAX_FAILURES:
        lines.append(f"  and {len(failures) - _MAX_FAILURES} more")
    if lines:
        lines.insert(0, "failed:")
    parts = [f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome]]
    if left := total - len(results):
        parts.append(f"{left} left")
    took = "" if dry_run else f", in {formatting.span(duration)}"
    what = formatting.number(total, "query", "queries")
    return [*map(printable, lines), f"{what}: {', '.join(parts)}{took}" if total else "there are no queries to run"]


def _json(results: Sequence[Warmed], total: int) -> dict[str, Any]:
    counts = Counter(one.outcome for one in results)
    queries = [asdict(one) for one in results]
    return {**{outcome: counts[outcome] for outcome in Outcome}, "left": total - len(results), "queries": queries}
