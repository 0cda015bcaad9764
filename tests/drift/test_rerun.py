"""A recorded query is rerun until its job has ended."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import pytest

from oda_proxy.drift.rerun import RerunFailedError
from oda_proxy.errors import UpstreamUnreachableError
from tests.support.dispatcher_responses import answer
from tests.support.reruns import AWAY, Clock, Scripted, ignore, query, rerun_with, state


async def test_a_job_is_polled_until_its_products_are_ready() -> None:
    upstream = Scripted([state("submitted"), state("progress"), AWAY, (502, b""), state("ready"), answer(n=1)])
    clock, lines = Clock(), list[str]()

    body = (await rerun_with(upstream, clock).run(query("RA=83&RA=84"), on_progress=lines.append)).body

    assert json.loads(body)["n"] == 1
    sent = [parse_qs(request.query_string) for request in upstream.requests]
    assert [one["query_status"][0] for one in sent] == ["new", "submitted", "progress", "progress", "progress", "ready"]
    assert [one.get("job_id") for one in sent] == [None, *[["j1"]] * 5]
    assert all(one["session_id"] == ["S" * 16] and one["RA"] == ["83", "84"] and "token" not in one for one in sent)
    assert [request.at_most_once for request in upstream.requests] == [True, False, False, False, False, True]
    assert lines[0].startswith("submitted, ")
    assert sum(clock.pauses) > 0


async def test_a_dispatcher_that_never_responds_ends_the_rerun() -> None:
    with pytest.raises(UpstreamUnreachableError):
        await rerun_with(Scripted([AWAY])).run(query(), on_progress=ignore)


async def test_a_dispatcher_that_stops_responding_fails_the_job() -> None:
    rerun = rerun_with(Scripted([answer(), AWAY]))
    await rerun.run(query(), on_progress=ignore)

    with pytest.raises(RerunFailedError, match="cannot reach the dispatcher"):
        await rerun.run(query(), on_progress=ignore)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ({**state("failed"), "exit_status": {"status": 1, "message": "no\ndata"}}, "no\\ndata"),
        ({**state("failed"), "exit_status": {}}, "the dispatcher gave no reason"),
        ((400, b'{"error": "RA is no number"}'), "RA is no number"),
        ((403, b"go away"), "the dispatcher responded 403: go away"),
        ((500, b""), "the dispatcher responded 500: nothing"),
    ],
)
async def test_a_failure_is_reported_in_one_line(response: Any, reason: str) -> None:
    with pytest.raises(RerunFailedError) as raised:
        await rerun_with(Scripted([response])).run(query(), on_progress=ignore)

    assert str(raised.value) == reason


async def test_a_response_that_is_too_large_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oda_proxy.drift.rerun.MAX_ANSWER", 10)

    with pytest.raises(RerunFailedError, match="more than 10 bytes"):
        await rerun_with(Scripted([answer()])).run(query(), on_progress=ignore)


async def test_a_long_query_is_sent_as_a_form() -> None:
    upstream = Scripted([answer()])

    await rerun_with(upstream).run(query(f"scw_list={'a' * 9000}"), on_progress=ignore)

    [request] = upstream.requests
    assert (request.method, request.query_string) == ("POST", "")
    assert isinstance(request.body, bytes)
    assert parse_qs(request.body.decode())["scw_list"] == ["a" * 9000]
    assert ("Content-Type", "application/x-www-form-urlencoded") in request.headers
