"""What comes from the dispatcher for an API client: read to its end, repaired and screened, in a thread."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from oda_proxy.compat import repairs, screening
from oda_proxy.compat.generations import Generation, generation
from oda_proxy.http import headers
from oda_proxy.http.spool import CHUNK_SIZE, MAX_IN_MEMORY, SpooledBody, spooled

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.http.answer import Answer
    from oda_proxy.query.query import Envelope

_log = logging.getLogger(__name__)

UNSAFE = "unsafe-pickle"
"""The word in `Cache-Status` for an answer that would have a client load what is not on the allow-list."""

MAX_NAMES = 100
"""Different names that are counted each for itself: they come from outside."""

_OF_ANOTHER_BODY = frozenset({"content-length", "content-type", "content-md5", "content-digest", "digest", "etag"})


class RepairPipeline:
    """Repairs answers and screens them; large ones, of which there are several copies meanwhile, one by one."""

    def __init__(self) -> None:
        self.refused: dict[str, int] = {}
        """How many answers would have a client load what."""
        self._large = asyncio.Lock()

    async def repaired(self, answer: Answer, envelope: Envelope) -> Answer:
        """Repair an answer that was read; its detail says so where it is unsafe. Others go on as they come."""
        names: tuple[str, ...] = ()

        def repair(body: bytes) -> bytes:
            nonlocal names
            body = repairs.repaired(body, answer.status, envelope)
            names = _refused(body)
            return body

        mended = await self._with_body(answer, repair)
        if not names:
            return mended
        self._count(names)
        return replace(mended, cache_status=replace(mended.cache_status, detail=UNSAFE))

    async def adapted(self, answer: Answer, envelope: Envelope) -> Answer:
        """Give a repaired answer the forms that its asker reads."""
        version = envelope.others.get("oda_api_version")
        if generation(version) is Generation.MODERN:
            return answer
        return await self._with_body(answer, lambda body: repairs.adapted(body, version))

    async def with_job_id(self, answer: Answer, job_id: str) -> Answer:
        """Name the job in an answer as its asker knows it."""
        return await self._with_body(answer, lambda body: repairs.with_job_id(body, job_id))

    async def without_configuration(self, answer: Answer) -> Answer:
        """Leave the dispatcher's configuration out of a failure to describe an instrument."""
        if answer.status < repairs.FAILED:
            return answer
        return await self._with_body(await spooled(answer, MAX_IN_MEMORY), repairs.without_configuration)

    async def _with_body(self, answer: Answer, change: Callable[[bytes], bytes]) -> Answer:
        """Give an answer the body that `change` makes of its own."""
        if not isinstance(answer.body, SpooledBody) or headers.values(answer.headers, "content-encoding"):
            return answer
        old = answer.body

        def changed() -> tuple[int, SpooledBody | tuple[bytes, ...]] | None:
            before = old.read()
            after = change(before)
            return None if after is before or after == before else (len(after), _spooled(after, old.in_memory))

        async with self._large if old.size > MAX_IN_MEMORY else nullcontext():
            new = await asyncio.to_thread(changed)
        if new is None:
            return answer
        await old.aclose()
        size, body = new
        kept = tuple((name, value) for name, value in answer.headers if name.casefold() not in _OF_ANOTHER_BODY)
        told = (("Content-Type", "application/json"), ("Content-Length", str(size)))
        return replace(answer, headers=(*kept, *told), body=body)

    def _count(self, names: tuple[str, ...]) -> None:
        """Count what was refused, and log each name once."""
        for name in names:
            if name not in self.refused:
                if len(self.refused) >= MAX_NAMES:
                    continue
                _log.warning("the dispatcher sent what would load %r in a client: passed on, never kept", name)
            self.refused[name] = self.refused.get(name, 0) + 1


def _refused(body: bytes) -> tuple[str, ...]:
    """Screen the products of an answer; what is no answer holds none."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    return screening.forbidden_names(answer.get("products")) if isinstance(answer, dict) else ()


def _spooled(body: bytes, in_memory: int) -> SpooledBody | tuple[bytes, ...]:
    """Put a body where large ones lie; in memory where there is no room."""
    spool = SpooledBody(in_memory)
    try:
        for at in range(0, len(body), CHUNK_SIZE):
            spool.add(body[at : at + CHUNK_SIZE])
    except OSError:
        return (body,)
    return spool
