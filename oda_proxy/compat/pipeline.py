"""Repair and screen answers for API clients, in a thread."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from oda_proxy.codec import json_steps
from oda_proxy.compat import answer_repairs, screening
from oda_proxy.compat.generations import Generation, generation
from oda_proxy.http import headers
from oda_proxy.http.memory import ProcessingBudget
from oda_proxy.http.spool import MAX_IN_MEMORY, SpooledBody, spooled

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.http.answer import Answer
    from oda_proxy.query.query import Envelope

_log = logging.getLogger(__name__)

UNSAFE = "unsafe-pickle"
"""The detail in `Cache-Status` of an answer that would make a client load a name that is not on the allow-list."""

MAX_NAMES = 100
"""Names that are counted separately: they come from outside."""

_BODY_HEADERS = frozenset({"content-length", "content-type", "content-md5", "content-digest", "digest", "etag"})


class RepairPipeline:
    """Repairs and screens answers, as many at once as the budget of memory allows."""

    def __init__(self, budget: ProcessingBudget | None = None) -> None:
        self.forbidden: dict[str, int] = {}
        """How many answers would make a client load each name that is not on the allow-list."""
        self._budget = budget or ProcessingBudget()

    async def repaired(self, answer: Answer, envelope: Envelope) -> Answer:
        """Repair a spooled answer; an unsafe one has the detail `UNSAFE`. Any other body is returned unchanged."""
        names: tuple[str, ...] = ()

        def repair(body: bytes) -> bytes:
            nonlocal names
            body = answer_repairs.repaired(body, answer.status, envelope)
            names = _forbidden_names(body)
            return body

        answer = await self._with_body(answer, repair)
        if not names:
            return answer
        self._count(names)
        return replace(answer, cache_status=replace(answer.cache_status, detail=UNSAFE))

    async def adapted(self, answer: Answer, envelope: Envelope) -> Answer:
        """Return a repaired answer in the form that its client reads."""
        version = envelope.client_version
        if generation(version) is Generation.MODERN:
            return answer
        return await self._with_body(answer, lambda body: answer_repairs.adapted(body, version))

    async def with_job_id(self, answer: Answer, job_id: str) -> Answer:
        """Return an answer with the job_id that its client has."""
        return await self._with_body(answer, lambda body: answer_repairs.with_job_id(body, job_id))

    async def without_configuration(self, answer: Answer) -> Answer:
        """Return a failure to describe an instrument without the dispatcher's configuration."""
        if answer.status < answer_repairs.FAILED:
            return answer
        return await self._with_body(await spooled(answer, MAX_IN_MEMORY), answer_repairs.without_configuration)

    async def _with_body(self, answer: Answer, change: Callable[[bytes], bytes]) -> Answer:
        """Return an answer with its body changed in a thread."""
        if not isinstance(answer.body, SpooledBody) or headers.values(answer.headers, "content-encoding"):
            return answer
        old = answer.body

        def changed() -> tuple[int, SpooledBody] | None:
            before = old.read()
            after = change(before)
            return None if after is before or after == before else (len(after), _spooled(after))

        new = await self._budget.run(old.size, changed)
        if new is None:
            return answer
        await old.aclose()
        size, body = new
        remaining = tuple((name, value) for name, value in answer.headers if name.casefold() not in _BODY_HEADERS)
        new_headers = (("Content-Type", "application/json"), ("Content-Length", str(size)))
        return replace(answer, headers=(*remaining, *new_headers), body=body)

    def _count(self, names: tuple[str, ...]) -> None:
        """Count forbidden names, and log each once."""
        for name in names:
            if name not in self.forbidden:
                if len(self.forbidden) >= MAX_NAMES:
                    continue
                _log.warning(
                    "an answer of the dispatcher would load %r in a client: it is passed on, and not stored",
                    name,
                )
            self.forbidden[name] = self.forbidden.get(name, 0) + 1


def _forbidden_names(body: bytes) -> tuple[str, ...]:
    """Return the forbidden names in the products of an answer; other bodies have none."""
    try:
        answer = json_steps.loads(body)
    except (ValueError, RecursionError):
        return ()
    return screening.forbidden_names(answer.get("products")) if isinstance(answer, dict) else ()


def _spooled(body: bytes) -> SpooledBody:
    """Store a body in a spool, which remains in memory if the temporary folder has no room."""
    spool = SpooledBody()
    try:
        spool.add(body)
    except OSError:
        spool.keep(body)
    return spool
