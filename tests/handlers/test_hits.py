"""Only answers that are the same for all clients but for their sessions are repeatable."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.handlers.capsule_recordings import CapsuleRecordings
from oda_proxy.handlers.hits import HitHandler
from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.query_tally import HOT, QueryTally
from oda_proxy.http.memory import ProcessingBudget
from oda_proxy.http.message import Request
from oda_proxy.jobs.client import Client
from oda_proxy.jobs.policy import JobPolicy
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.query.query import Envelope, Query, Token
from oda_proxy.query.resolved import QueryResolver, ResolvedQuery
from oda_proxy.recordings.fits_cards import Gap
from oda_proxy.recordings.loaded import load
from oda_proxy.store.faults import StoreFaults
from oda_proxy.store.memory import MemoryStore
from oda_proxy.store.recording_cache import RecordingCache
from tests.support.recordings import KEYS, recording
from tests.support.scripted_upstream import Clock

if TYPE_CHECKING:
    from oda_proxy.recordings.recording import Recording

QUERY = Query("isgri", "isgri_image", "Real", (), api=True)
RESOLVED = ResolvedQuery(QUERY, (), (KEYS[0], KEYS[1]))
CLIENT = Client(Request("GET", "/run_analysis"), Envelope(session_id="A" * 16), "http://proxy.example")


def in_memory(**changes: Any) -> Recording:
    made = recording(**changes)
    return load(made, made.head.pieces())


def is_repeatable(
    found: Recording, client: Client = CLIENT, resolved: ResolvedQuery | None = RESOLVED, **changes: Any
) -> bool:
    clock, resolver, store = Clock(), QueryResolver(None), MemoryStore()
    cache = RecordingCache(store, StoreFaults(clock), resolver, clock, ProcessingBudget())
    settings = {"policy": Policy(), "is_online": True, "is_observed": False, **changes}
    handler = HitHandler(
        cache,
        resolver,
        runtime=Runtime(clock=clock),
        tally=QueryTally(resolver),
        capsules=CapsuleRecordings(),
        **settings,
    )
    return handler.answer(found, client, HOT, resolved).repeatable is not None


def test_an_answer_from_memory_is_repeatable() -> None:
    assert is_repeatable(in_memory())


@pytest.mark.parametrize(
    "found",
    [recording(), in_memory(key=KEYS[1]), in_memory(gaps=(Gap(0, False, {"SESSION": "session_id"}),))],
    ids=["from disk", "earlier key", "FITS cards"],
)
def test_an_answer_from_another_recording_is_not(found: Recording) -> None:
    assert not is_repeatable(found)


@pytest.mark.parametrize(
    "client",
    [
        replace(CLIENT, envelope=Envelope(session_id="A", token=Token("a.b.c"))),
        replace(CLIENT, request=Request("GET", "/run_analysis", headers=(("Cache-Control", "max-age=5"),))),
    ],
    ids=["token", "max-age"],
)
def test_an_answer_to_another_client_is_not(client: Client) -> None:
    assert not is_repeatable(in_memory(), client)


def test_an_answer_that_depends_on_jobs_is_not() -> None:
    assert not is_repeatable(in_memory(), resolved=None)


def test_nothing_is_repeatable_where_answers_are_observed() -> None:
    assert not is_repeatable(in_memory(), is_observed=True)


@pytest.mark.parametrize("time_scale", [0.0, 0.1])
def test_an_answer_offline_is_repeatable_unless_it_takes_the_time_of_its_job(time_scale: float) -> None:
    policy = Policy(jobs=JobPolicy(time_scale=time_scale))

    assert is_repeatable(in_memory(), policy=policy, is_online=False) == (time_scale == 0)
