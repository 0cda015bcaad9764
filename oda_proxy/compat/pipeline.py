"""Repair and screen answers for API clients, in a thread."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from oda_proxy.compat import answer_repairs
from oda_proxy.compat.generations import Generation, generation
from oda_proxy.http import headers
from oda_proxy.http.memory import ProcessingBudget
from oda_proxy.http.spool import MAX_IN_MEMORY, SpooledBody, spooled

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.compat.answer_repairs import RepairedAnswer
    from oda_proxy.compat.answer_walk import MemberObserver
    from oda_proxy.compat.parsed_answer import ParsedAnswer
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

    async def repaired(
        self,
        answer: Answer,
        envelope: Envelope,
        *,
        parsed: ParsedAnswer | None = None,
        observer: MemberObserver | None = None,
        base_url: str = "",
    ) -> Answer:
        """Repair a spooled answer; an unsafe one has the detail `UNSAFE`. Any other body is returned unchanged.

        An answer that was `parsed` before is not parsed again, and can be used no more. The `observer` sees a success.
        The program in it has `base_url`, the address of the proxy for the client, unless that is empty.
        """
        if not _is_readable(answer):
            return answer
        old, new = cast("SpooledBody", answer.body), SpooledBody()

        def repair() -> RepairedAnswer:
            if parsed is None:
                body = old.read()
                return answer_repairs.repair_body(body, answer.status, envelope, new.hold, observer, base_url=base_url)
            return answer_repairs.repair_answer(parsed, answer.status, envelope, new.hold, observer, base_url=base_url)

        result = await self._budget.run(old.size, repair)
        if result.is_changed:
            await old.aclose()
            answer = _with_new_body(answer, new)
        if not result.forbidden:
            return answer
        self._count(result.forbidden)
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

    async def with_address(self, answer: Answer, base_url: str) -> Answer:
        """Return an answer whose program has the address of the proxy for its client."""
        return await self._with_body(answer, lambda body: answer_repairs.with_address(body, base_url))

    async def without_configuration(self, answer: Answer) -> Answer:
        """Return a failure to describe an instrument without the dispatcher's configuration."""
        if answer.status < answer_repairs.FAILED:
            return answer
        return await self._with_body(await spooled(answer, MAX_IN_MEMORY), answer_repairs.without_configuration)

    async def _with_body(self, answer: Answer, change: Callable[[bytes], bytes]) -> Answer:
        """Return an answer with its body changed in a thread."""
        if not _is_readable(answer):
            return answer
        old = cast("SpooledBody", answer.body)

        def changed() -> SpooledBody | None:
            before = old.read()
            after = change(before)
            return None if after is before or after == before else _spooled(after)

        new = await self._budget.run(old.size, changed)
        if new is None:
            return answer
        await old.aclose()
        return _with_new_body(answer, new)

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


def _is_readable(answer: Answer) -> bool:
    """Return whether the body of an answer was read, and is not compressed."""
    return isinstance(answer.body, SpooledBody) and not headers.values(answer.headers, "content-encoding")


def _with_new_body(answer: Answer, body: SpooledBody) -> Answer:
    """Return an answer with another JSON body."""
    remaining = tuple((name, value) for name, value in answer.headers if name.casefold() not in _BODY_HEADERS)
    new_headers = (("Content-Type", "application/json"), ("Content-Length", str(body.size)))
    return replace(answer, headers=(*remaining, *new_headers), body=body)


def _spooled(body: bytes) -> SpooledBody:
    """Store a body in a spool."""
    spool = SpooledBody()
    spool.hold(body)
    return spool
