"""What goes on: jobs without their clients, the health of the dispatcher, faults of the store, near misses."""

from __future__ import annotations

from typing import Any

import pytest

from oda_proxy.http.message import Request
from oda_proxy.jobs.client import Client
from oda_proxy.jobs.estimates import Estimate
from oda_proxy.jobs.running_job import RunningJob
from oda_proxy.pages import activity
from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Envelope
from oda_proxy.query.resolved import ResolvedQuery
from oda_proxy.store.faults import StoreFault
from oda_proxy.store.near_misses import Miss
from oda_proxy.upstream.throttling import UpstreamHealth
from tests.pages.test_overview import CRAB, NOW, plain

KEY = Key("ab" * 32)
ESTIMATE = Estimate(3, 100.0, 600.0, 900.0)


def running() -> RunningJob:
    client = Client(Request("GET", "/run_analysis", "", ()), Envelope(session_id="SESSION"), "")
    job = RunningJob(ResolvedQuery(CRAB, (), (KEY,)), client, started_at=NOW - 300, clock=lambda: NOW)
    job.join(client)
    return job


def row(job: RunningJob, *, is_visible: bool = True) -> activity.JobRow:
    remark = f"oda-proxy: it is the next; {ESTIMATE}"
    return activity.job_row(job, ESTIMATE, remark, now=NOW, is_visible=is_visible)


def test_a_job_has_its_query_its_state_and_how_long_earlier_ones_took() -> None:
    found = row(running())

    assert (found.product, found.instrument, found.state) == ("isgri_image", "isgri", "being submitted")
    assert (found.source, plain(found.time_range)) == ("Crab", "2003-03-15 12:00, 12 h")
    assert plain(found.started) == "5 min ago"
    assert plain(found.clients) == "1 client, none waiting now"
    assert (found.estimate, found.fraction, found.remark) == (str(ESTIMATE), 0.5, "it is the next")


def test_a_job_in_the_queue_waits() -> None:
    job = running()
    job.is_queued = True

    assert row(job).state == "waits for a place"


def test_of_a_private_job_only_the_state_is_shown() -> None:
    found = row(running(), is_visible=False)

    assert found.product == "private query"
    shown = repr(found)
    assert not any(text in shown for text in ("isgri", "next", "Crab", "2003", str(ESTIMATE)))


def test_no_session_is_shown() -> None:
    assert "SESSION" not in repr(row(running()))


def health(**changes: Any) -> UpstreamHealth:
    members: dict[str, Any] = {
        "state": "closed",
        "failures": 0,
        "since": None,
        "reason": "",
        "until": None,
        "under_way": 2,
        "waiting": 0,
    }
    return UpstreamHealth(**{**members, **changes})


@pytest.mark.parametrize(
    ("url", "found", "expected"),
    [
        (None, None, ("warning", "offline", "queries are answered from recordings alone")),
        ("https://x", None, ("good", "in use", "https://x")),
        ("https://x", health(), ("good", "responding", "2 requests under way")),
        ("https://x", health(waiting=4), ("good", "responding", "2 requests under way, 4 waiting")),
        ("https://x", health(failures=2, reason="it timed out"), ("warning", "2 failures in a row", "it timed out")),
        (
            "https://x",
            health(until=1e9 + 5, reason="it responded 429"),
            ("warning", "requested a pause", "it responded 429; the next request is sent at 01:46:45 UTC"),
        ),
        (
            "https://x",
            health(state="open", failures=7, since=1e9, reason="it responds 502", until=1e9 + 60),
            (
                "bad",
                "failing since 2001-09-09 01:46:40 UTC",
                "it responds 502; the next request is sent at 01:47:40 UTC",
            ),
        ),
    ],
)
def test_the_health_of_the_dispatcher_is_said_in_words(
    url: str | None, found: UpstreamHealth | None, expected: tuple[str, str, str]
) -> None:
    shown = activity.health_of(url, found)

    assert (shown.level, plain(shown.text), plain(shown.remark)) == expected


def test_a_fault_of_the_store_is_a_line() -> None:
    [text] = activity.fault_texts([StoreFault("stored", "the disk is full", 1e9, 3)])

    assert plain(text) == "recordings cannot be stored since 2001-09-09 01:46:40 UTC: the disk is full (3 times)"


def test_a_miss_leads_to_the_nearest_recording() -> None:
    text = (
        "offline: there is no recording of isgri isgri_lc as requested; the nearest is 43696adf9135 (of 2026-11-29): x"
    )
    misses = [Miss(NOW - 60, "isgri", "isgri_lc", text), Miss(NOW, "isgri", "isgri_lc", "offline: there are none")]
    [found, other] = activity.miss_rows(misses, now=NOW)

    assert (found.product, plain(found.when), found.nearest) == ("isgri_lc", "1 min ago", "43696adf9135")
    assert found.text == text.removeprefix("offline: ")
    assert other.nearest == ""
