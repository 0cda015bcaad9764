"""Queries are run through a proxy, several at a time, and each is reported."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.query.query import Token
from oda_proxy.warming.plan import PlannedQuery, Skipped
from oda_proxy.warming.warm import NoProxyError, Outcome, Warmed, warm
from tests.support.dispatcher_responses import answer, json_bytes
from tests.support.reruns import AWAY, Body, Clock, Reply, query, state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from oda_proxy.http.message import Headers, Request

OWN = (("Cache-Status", "oda-proxy"),)
HIT, STORED, JOINED, REFUSED = (
    (("Cache-Status", f"oda-proxy; {text}"),)
    for text in ("hit", "fwd=uri-miss; stored", "fwd=uri-miss; collapsed", "fwd=uri-miss; detail=store-failed")
)


class UnreadBody(Body):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b""
        raise AssertionError("the recording was read")


@dataclass
class Proxy:
    """A proxy that answers each query with a function."""

    respond: Callable[[Request], Reply]
    requests: list[Request] = field(default_factory=list)
    url: str = "http://proxy.example"
    own: Headers = OWN

    async def send(self, request: Request) -> Reply:
        if request.path == "/-/livez":
            return Reply(200, Body(b"ok\n"), self.own)
        self.requests.append(request)
        await asyncio.sleep(0)
        return self.respond(request)


@dataclass
class Recorder:
    """Collects what is reported."""

    results: dict[int, Warmed] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    most: int = 0

    def started(self, number: int, name: str) -> None:
        self.running.add(number)
        self.most = max(self.most, len(self.running))

    def progress(self, number: int, text: str) -> None:
        assert number in self.running

    def ended(self, number: int, warmed: Warmed) -> None:
        self.running.discard(number)
        self.results[number] = warmed


def done(fields: Headers) -> Reply:
    return Reply(200, Body(json_bytes(answer(n=1))), fields)


def planned(*values: str, refresh: bool = False) -> list[PlannedQuery]:
    return [PlannedQuery(query(f"RA={value}"), refresh) for value in values]


async def run(proxy: Proxy, queries: Any, clock: Clock | None = None, **options: Any) -> Recorder:
    clock, recorder = clock or Clock(), Recorder()
    await warm(queries, proxy, recorder, **{"parallel": 2, "clock": clock, "sleep": clock.sleep, **options})
    return recorder


@pytest.mark.parametrize(
    ("fields", "outcome", "reason"),
    [
        (STORED, Outcome.STORED, ""),
        (JOINED, Outcome.FAILED, "the proxy did not store the result (no reason given)"),
        (REFUSED, Outcome.FAILED, "the proxy did not store the result (store-failed)"),
    ],
)
async def test_a_computed_result_counts_if_there_is_a_recording_now(
    fields: Headers, outcome: Outcome, reason: str
) -> None:
    (warmed,) = (await run(Proxy(lambda _: done(fields)), planned("1"))).results.values()

    assert warmed.outcome is outcome
    assert reason in warmed.reason


@pytest.mark.parametrize("fields", [JOINED, REFUSED])
async def test_a_result_that_another_process_has_stored_counts(fields: Headers) -> None:
    def respond(request: Request) -> Reply:
        return done(HIT if ("Cache-Control", "only-if-cached") in request.headers else fields)

    (warmed,) = (await run(Proxy(respond), planned("1"))).results.values()

    assert warmed.outcome is Outcome.STORED


async def test_a_recording_is_not_read_and_nothing_else_is_sent() -> None:
    proxy = Proxy(lambda _: Reply(200, UnreadBody(b""), HIT))

    recorder = await run(proxy, planned("1", "2"))

    assert [one.outcome for one in recorder.results.values()] == [Outcome.PRESENT, Outcome.PRESENT]
    assert len(proxy.requests) == 2


async def test_a_job_is_polled_and_one_that_is_to_be_computed_again_does_not_use_the_recording() -> None:
    answers = iter([Reply(200, Body(json_bytes(state("submitted"))), STORED), done(HIT)])
    proxy = Proxy(lambda _: next(answers))

    recorder = await run(proxy, planned("1", refresh=True))

    assert [("Cache-Control", "no-cache") in request.headers for request in proxy.requests] == [True, True]
    assert recorder.results[0].outcome is Outcome.PRESENT  # another client has asked for it in the meantime


async def test_so_many_queries_run_at_once_and_one_that_fails_does_not_end_the_others() -> None:
    def respond(request: Request) -> Reply:
        if "RA=3" in request.query_string:
            return Reply(400, Body(b'{"error": "no"}'), OWN)
        if "RA=4" in request.query_string:
            return Reply(500, Body(b"an error"), OWN)
        return done(STORED)

    recorder = await run(Proxy(respond), [*planned("1", "2", "3", "4", "5"), Skipped("six", "why")], parallel=3)

    outcomes = [recorder.results[number].outcome for number in range(6)]
    assert outcomes == ["stored", "stored", "failed", "failed", "stored", "skipped"]
    assert recorder.results[2].reason == "no"
    assert "the dispatcher responded 500: an error" in recorder.results[3].reason
    assert recorder.most == 3


async def test_a_server_that_wants_a_pause_gets_it() -> None:
    answers = iter([Reply(429, Body(b""), (("Retry-After", "17"), *OWN)), done(STORED)])
    clock = Clock()

    recorder = await run(Proxy(lambda _: next(answers)), planned("1"), clock)

    assert recorder.results[0].outcome is Outcome.STORED
    assert 17.0 in clock.pauses


def raising(answers: Iterator[Reply | Exception]) -> Callable[[Request], Reply]:
    def respond(_: Request) -> Reply:
        one = next(answers)
        if isinstance(one, Exception):
            raise one
        return one

    return respond


async def test_a_server_that_is_restarted_is_waited_for() -> None:
    answers: list[Reply | Exception] = [done(STORED), AWAY, AWAY, AWAY, done(STORED)]

    recorder = await run(Proxy(raising(iter(answers))), planned("1", "2"), parallel=1)

    assert [one.outcome for one in recorder.results.values()] == ["stored", "stored"]


async def test_a_server_that_does_not_come_back_ends_the_run() -> None:
    answers: list[Reply | Exception] = [done(STORED), *[AWAY] * 100]
    recorder, clock = Recorder(), Clock()

    with pytest.raises(NoProxyError, match="it answered before"):
        await warm(
            planned("1", "2", "3"), Proxy(raising(iter(answers))), recorder, parallel=1, clock=clock, sleep=clock.sleep
        )
    assert list(recorder.results) == [0]


async def test_a_dry_run_submits_nothing() -> None:
    def respond(request: Request) -> Reply:
        assert ("Cache-Control", "only-if-cached") in request.headers
        return done(HIT) if "RA=1" in request.query_string else Reply(504, Body(b"{}"), OWN)

    recorder = await run(Proxy(respond), [*planned("1", "2"), *planned("1", refresh=True)], dry_run=True)

    assert [recorder.results[number].outcome for number in range(3)] == ["present", "missing", "missing"]


async def test_the_token_is_sent_only_where_it_is_given_and_never_reported() -> None:
    proxy = Proxy(lambda _: Reply(403, Body(b"go away"), OWN))

    await run(proxy, planned("1"))
    recorder = await run(proxy, planned("1"), token=Token("secret-token"))

    assert ["token=secret-token" in request.query_string for request in proxy.requests] == [False, True]
    assert "secret-token" not in str(recorder.results)


async def test_a_dispatcher_is_not_taken_for_a_proxy() -> None:
    proxy = Proxy(lambda _: done(()), own=(("Server", "gunicorn"),))

    with pytest.raises(NoProxyError, match=r"no oda-proxy answers at http://proxy\.example: another program does"):
        await run(proxy, planned("1"))
    assert proxy.requests == []
