"""A scripted dispatcher and a clock for reruns of recorded queries."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from oda_proxy.compat.answer_repairs import repaired
from oda_proxy.drift.rerun import Rerun
from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.query.cache_key import key_of
from oda_proxy.query.query import parse_fields, split_query
from oda_proxy.recordings.recording import redact
from oda_proxy.upstream.dispatcher import Dispatcher
from tests.support.dispatcher_responses import json_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from oda_proxy.http.message import Headers, Request
    from oda_proxy.query.query import Query
    from oda_proxy.recordings.recording import Recording


async def no_sleep(_: float) -> None:
    """Return at once."""


def ignore(_: str) -> None:
    """Ignore progress."""


def query(words: str = "RA=83.0") -> Query:
    return split_query(parse_fields(f"instrument=polar&product_type=polar_lc&query_type=Real&api=True&{words}"))[0]


@dataclass
class Body:
    content: bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content

    async def aclose(self) -> None:
        pass


@dataclass
class Reply:
    status: int
    body: Body
    headers: Headers = ()


@dataclass
class Scripted:
    """An upstream with prepared answers: JSON, a status with a body, or an error."""

    answers: list[Any]
    requests: list[Request] = field(default_factory=list)
    url: str = "http://dispatcher.example"

    async def send(self, request: Request) -> Reply:
        self.requests.append(request)
        prepared = self.answers.pop(0)
        if isinstance(prepared, Exception):
            raise prepared
        status, content = prepared if isinstance(prepared, tuple) else (200, json_bytes(prepared))
        return Reply(status, Body(content))


@dataclass
class Clock:
    """A clock that advances only by `sleep`."""

    now: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def rerun_with(upstream: Scripted, clock: Clock | None = None) -> Rerun:
    clock = clock or Clock()
    return Rerun(upstream, "S" * 16, clock=clock, sleep=clock.sleep)


def state(word: str) -> dict[str, Any]:
    return {"query_status": word, "job_monitor": {"job_id": "j1"}, "products": {}, "exit_status": {"status": 0}}


AWAY = UpstreamUnreachableError("http://dispatcher.example", "no answer in time")


async def recorded_from(url: str, query: Query) -> Recording:
    """Record the response of a dispatcher to a query."""
    async with Dispatcher(url) as dispatcher:
        rerun = Rerun(dispatcher, "S" * 16, clock=lambda: 0.0, sleep=no_sleep)
        body = repaired((await rerun.run(query, on_progress=ignore)).body, 200, rerun.envelope)
    return replace(redact(body, rerun.envelope, key=key_of(query), stored_at=1.0), query=query)
