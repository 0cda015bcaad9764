"""Remembering what describes instruments: it changes seldom, and clients ask for it before each query.

What is remembered is given for a while without asking, and marked as stale for as long as the dispatcher is away.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cachetools import LRUCache

from oda_proxy.answer import age, is_plain, whole
from oda_proxy.cache_status import CacheStatus
from oda_proxy.errors import NoRecordingError, UpstreamUnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from oda_proxy.answer import Answer
    from oda_proxy.cache_status import Forwarded

MAX_SIZE = 8 * 1024 * 1024
"""Bytes of a description that is remembered; the largest known has some hundred thousand."""
MAX_DESCRIPTIONS = 1024
"""Descriptions remembered at once: some tens of instruments with some tens of products."""

_AWAY = frozenset({502, 503, 504})


class Remembered:
    """Answers that are good for `ttl` s; `clock` gives s."""

    def __init__(self, ttl: float, clock: Callable[[], float]) -> None:
        self._ttl = ttl
        self._clock = clock
        self._known: LRUCache[tuple[str, ...], tuple[float, Answer]] = LRUCache(MAX_DESCRIPTIONS)

    async def answer(
        self, name: tuple[str, ...], ask: Callable[[Forwarded], Awaitable[Answer]], *, anew: bool
    ) -> Answer:
        """Give what is remembered under a name, or what `ask` gives; `anew` wants the latter.

        Raises what `ask` raises where nothing is remembered.
        """
        remembered_at, known = self._known.get(name, (0.0, None))
        if known and not anew and self._clock() - remembered_at < self._ttl:
            return self._told(known, remembered_at)
        try:
            answer = await whole(await ask("request" if anew else "stale" if known else "uri-miss"), MAX_SIZE)
        except (UpstreamUnreachableError, NoRecordingError):
            if known is None:
                raise
            return self._told(known, remembered_at, detail="stale")
        if known and answer.status in _AWAY:
            await answer.dismiss()
            return self._told(known, remembered_at, detail="stale")
        if not is_plain(answer) or not isinstance(answer.body, tuple):
            return answer
        self._known[name] = (self._clock(), answer)
        return replace(answer, cache_status=replace(answer.cache_status, stored=True))

    def _told(self, known: Answer, remembered_at: float, *, detail: str = "") -> Answer:
        headers = (*known.headers, age(remembered_at, self._clock()))
        return replace(known, headers=headers, cache_status=CacheStatus(hit=True, detail=detail))
