"""Remembering what describes instruments: it changes seldom, and clients ask for it before each query.

What is remembered is given for a while without asking, and marked as stale for as long as the dispatcher is away. In
the folder of the recordings it outlives the process, so that a notebook's first cells work offline, too.
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
"""Bytes of a description that is remembered; the largest known has some hundred thousand."""
MAX_DESCRIPTIONS = 1024
"""Descriptions remembered at once: some tens of instruments with some tens of products."""

_AWAY = frozenset({502, 503, 504})


class DescriptionCache:
    """Answers that are good for `ttl` s, also in a folder where there is one; `clock` gives s since 1970 (UTC)."""

    def __init__(self, ttl: float, clock: Callable[[], float], folder: Path | None = None) -> None:
        self._ttl = ttl
        self._clock = clock
        self._folder = folder / "descriptions" if folder else None
        self._known: LRUCache[tuple[str, ...], tuple[float, Answer]] = LRUCache(MAX_DESCRIPTIONS)
        self._attempts: dict[tuple[str, ...], asyncio.Task[Answer]] = {}

    async def answer(
        self, name: tuple[str, ...], request: Callable[[Forwarded], Awaitable[Answer]], *, anew: bool
    ) -> Answer:
        """Give what is remembered under a name, or what `ask` gives; `anew` wants the latter.

        Who wants the same meanwhile waits for it. Raises what `ask` raises where nothing is remembered.
        """
        under_way = None if anew else self._attempts.get(name)
        if under_way is None:
            attempt = asyncio.create_task(self._answered(name, request, anew=anew))
            self._attempts[name] = attempt
            attempt.add_done_callback(lambda done: self._over(name, done))
            return await asyncio.shield(attempt)
        answer = await asyncio.shield(under_way)
        return answer if isinstance(answer.body, tuple) else await self._answered(name, request, anew=anew)

    def _over(self, name: tuple[str, ...], attempt: asyncio.Task[Answer]) -> None:
        if self._attempts.get(name) is attempt:
            del self._attempts[name]
        if not attempt.cancelled():
            attempt.exception()  # whoever wanted to know may have gone away

    async def _answered(
        self, name: tuple[str, ...], request: Callable[[Forwarded], Awaitable[Answer]], *, anew: bool
    ) -> Answer:
        if name not in self._known and (kept := await asyncio.to_thread(self._read, name)):
            self._known[name] = kept
        remembered_at, known = self._known.get(name, (0.0, None))
        if known and not anew and self._clock() - remembered_at < self._ttl:
            return self._told(known, remembered_at)
        try:
            answer = await buffered(await request("request" if anew else "stale" if known else "uri-miss"), MAX_SIZE)
        except (UpstreamUnreachableError, NoRecordingError):
            if known is None:
                raise
            return self._told(known, remembered_at, detail="stale")
        if known and answer.status in _AWAY:
            await answer.close()
            return self._told(known, remembered_at, detail="stale")
        if not is_plain(answer) or not isinstance(answer.body, tuple):
            return answer
        now = self._clock()
        self._known[name] = (now, answer)
        await asyncio.to_thread(self._write, name, now, answer)
        return replace(answer, cache_status=replace(answer.cache_status, stored=True))

    def _told(self, known: Answer, remembered_at: float, *, detail: str = "") -> Answer:
        told = (*known.headers, age(remembered_at, self._clock()))
        return replace(known, headers=told, cache_status=CacheStatus(hit=True, detail=detail))

    def _file(self, name: tuple[str, ...]) -> Path | None:
        digest = hashlib.sha256(json.dumps(name).encode()).hexdigest()
        return self._folder / f"told-{digest}.json" if self._folder else None

    def _read(self, name: tuple[str, ...]) -> tuple[float, Answer] | None:
        """Read what is kept under a name; a file that cannot be read is none."""
        file = self._file(name)
        try:
            if file is None or not file.is_file() or file.stat().st_size > 2 * MAX_SIZE:
                return None
            kept = json.loads(file.read_bytes())
            if kept["format"] != FORMAT or kept["asked"] != list(name):
                return None
            return float(kept["told_at"]), _answer(kept)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            _log.warning("the description in %s cannot be read: %s", file, error)
            return None

    def _write(self, name: tuple[str, ...], now: float, answer: Answer) -> None:
        """Keep an answer for later runs; where that fails, it is known for as long as this process lives."""
        file = self._file(name)
        if file is None or not isinstance(answer.body, tuple):
            return
        try:
            kept = {
                "format": FORMAT,
                "asked": name,
                "told_at": now,
                "content_type": (headers.values(answer.headers, "content-type") or [""])[0],
                "body": b"".join(answer.body).decode("utf-8"),
            }
            atomic.write(file, json.dumps(kept, indent=1).encode())
        except UnicodeDecodeError:
            return  # what is no text describes nothing
        except OSError as error:
            _log.warning("cannot keep a description: %s", error.strerror or error)


def _answer(kept: dict[str, Any]) -> Answer:
    """Make the answer that was kept; raises KeyError, TypeError or AttributeError for what is none."""
    body = kept["body"].encode("utf-8")
    told = (("Content-Type", str(kept["content_type"])), ("Content-Length", str(len(body))))
    return Answer(OK, told, (body,), CacheStatus())
