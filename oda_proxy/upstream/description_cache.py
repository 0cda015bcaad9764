"""The cache of instrument and product descriptions, in memory and in files.

Descriptions change seldom, and clients request them before each query. A cached one is served without asking until its
time to live has passed, and marked as stale for as long as the dispatcher is unreachable. Files beside the recordings
outlive the process, so that the first cells of a notebook work offline.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

from oda_proxy.errors import NoRecordingError, UpstreamUnreachableError
from oda_proxy.files import atomic
from oda_proxy.http import headers
from oda_proxy.http.answer import OK, Answer, age, buffered, is_plain
from oda_proxy.http.cache_status import CacheStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from oda_proxy.http.cache_status import Forwarded

_log = logging.getLogger(__name__)

FORMAT = 1
"""Version of the files."""
MAX_SIZE = 8 * 1024 * 1024
"""Bytes of a description that is cached; the largest known has some hundred thousand."""
MAX_DESCRIPTIONS = 1024
"""Descriptions in memory: some tens of instruments with some tens of products."""

_GATEWAY_ERRORS = frozenset({502, 503, 504})


class DescriptionCache:
    """Descriptions that are fresh for `ttl` s, also in files below `folder`; `clock` returns s since 1970 (UTC)."""

    def __init__(self, ttl: float, clock: Callable[[], float], folder: Path | None = None) -> None:
        self._ttl = ttl
        self._clock = clock
        self._folder = folder / "descriptions" if folder else None
        self._cached: LRUCache[tuple[str, ...], tuple[float, Answer]] = LRUCache(MAX_DESCRIPTIONS)
        self._fetches: dict[tuple[str, ...], asyncio.Task[Answer]] = {}

    async def get(
        self, name: tuple[str, ...], fetch: Callable[[Forwarded], Awaitable[Answer]], *, refresh: bool
    ) -> Answer:
        """Return the cached description, or the result of `fetch`; with `refresh` always the latter.

        Concurrent requests for one name share one fetch. Raises what `fetch` raises where nothing is cached.
        """
        running = None if refresh else self._fetches.get(name)
        if running is None:
            task = asyncio.create_task(self._get(name, fetch, refresh=refresh))
            self._fetches[name] = task
            task.add_done_callback(lambda done: self._finished(name, done))
            return await asyncio.shield(task)
        answer = await asyncio.shield(running)
        # A body that is no tuple is still being read, by the first who asked.
        return answer if isinstance(answer.body, tuple) else await self._get(name, fetch, refresh=refresh)

    def _finished(self, name: tuple[str, ...], task: asyncio.Task[Answer]) -> None:
        if self._fetches.get(name) is task:
            del self._fetches[name]
        if not task.cancelled():
            task.exception()  # all who waited may have disconnected: mark it as retrieved

    async def _get(
        self, name: tuple[str, ...], fetch: Callable[[Forwarded], Awaitable[Answer]], *, refresh: bool
    ) -> Answer:
        if name not in self._cached and (found := await asyncio.to_thread(self._read, name)):
            self._cached[name] = found
        fetched_at, cached = self._cached.get(name, (0.0, None))
        if cached and not refresh and self._clock() - fetched_at < self._ttl:
            return self._hit(cached, fetched_at)
        try:
            answer = await buffered(await fetch("request" if refresh else "stale" if cached else "uri-miss"), MAX_SIZE)
        except (UpstreamUnreachableError, NoRecordingError):
            if cached is None:
                raise
            return self._hit(cached, fetched_at, detail="stale")
        if cached and answer.status in _GATEWAY_ERRORS:
            await answer.close()
            return self._hit(cached, fetched_at, detail="stale")
        if not is_plain(answer) or not isinstance(answer.body, tuple):
            return answer
        now = self._clock()
        self._cached[name] = (now, answer)
        await asyncio.to_thread(self._write, name, now, answer)
        return replace(answer, cache_status=replace(answer.cache_status, stored=True))

    def _hit(self, cached: Answer, fetched_at: float, *, detail: str = "") -> Answer:
        with_age = (*cached.headers, age(fetched_at, self._clock()))
        return replace(cached, headers=with_age, cache_status=CacheStatus(hit=True, detail=detail))

    def _file(self, name: tuple[str, ...]) -> Path | None:
        digest = hashlib.sha256(json.dumps(name).encode()).hexdigest()
        return self._folder / f"told-{digest}.json" if self._folder else None

    def _read(self, name: tuple[str, ...]) -> tuple[float, Answer] | None:
        """Read the file of a description; one that cannot be read is logged and counts as absent."""
        file = self._file(name)
        try:
            if file is None or not file.is_file() or file.stat().st_size > 2 * MAX_SIZE:
                return None
            members = json.loads(file.read_bytes())
            if members["format"] != FORMAT or members["asked"] != list(name):
                return None
            return float(members["told_at"]), _answer(members)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            _log.warning("cannot read the description in %s: %s", file, error)
            return None

    def _write(self, name: tuple[str, ...], now: float, answer: Answer) -> None:
        """Write a description for later runs; where that fails, it stays cached in this process only."""
        file = self._file(name)
        if file is None or not isinstance(answer.body, tuple):
            return
        try:
            members = {
                "format": FORMAT,
                "asked": name,
                "told_at": now,
                "content_type": (headers.values(answer.headers, "content-type") or [""])[0],
                "body": b"".join(answer.body).decode("utf-8"),
            }
            atomic.write(file, json.dumps(members, indent=1).encode())
        except UnicodeDecodeError:
            return  # a description is JSON, which is UTF-8
        except OSError as error:
            _log.warning("cannot write a description: %s", error.strerror or error)


def _answer(members: dict[str, Any]) -> Answer:
    """Return the answer in a file; raises KeyError, TypeError or AttributeError where a member is missing or wrong."""
    body = members["body"].encode("utf-8")
    content_headers = (("Content-Type", str(members["content_type"])), ("Content-Length", str(len(body))))
    return Answer(OK, content_headers, (body,), CacheStatus())
