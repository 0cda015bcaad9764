"""Recordings stay fresh, unless data were still arriving or a rule of the configuration matches."""

from __future__ import annotations

from typing import Any

import pytest

from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Envelope
from oda_proxy.recordings.recording import Recording, redact
from oda_proxy.store.freshness import CLOCK_TOLERANCE, DAY, FOR_EVER, HOUR, Freshness, Rule
from tests.support.dispatcher_responses import SESSION, answer, json_bytes

STORED_AT = 1_700_000_000.0  # 2023-11-14T22:13:20


def recording(**parameters: Any) -> Recording:
    echo = {"instrument": "isgri", "product_type": "isgri_lc", **parameters}
    body = json_bytes(answer(products={"analysis_parameters": echo}))
    return redact(body, Envelope(session_id=SESSION), key=Key("a" * 64), stored_at=STORED_AT)


@pytest.mark.parametrize(
    ("t2", "lifetime"),
    [
        ("2003-03-16T00:03:12.0", FOR_EVER),
        ("2023-10-31T22:13:20.000", FOR_EVER),  # two weeks before
        ("2023-10-31T22:13:20.001", DAY),
        ("2023-11-13T22:13:20.000", DAY),  # a day before
        ("2023-11-13T22:13:20.001", HOUR),
        ("2023-11-14T22:13:20.000", HOUR),
        ("2030-01-01T00:00:00.000", HOUR),
        ("58000.5", DAY),  # no dispatcher echoes this
        (None, DAY),
    ],
)
def test_a_recording_stays_fresh_unless_data_were_still_arriving_or_being_taken(
    t2: str | None, lifetime: float
) -> None:
    assert Freshness().lifetime(recording(T2=t2)) == lifetime


def test_a_recording_without_a_time_stays_fresh() -> None:
    assert Freshness().lifetime(recording()) == FOR_EVER


def test_the_first_matching_rule_counts() -> None:
    rules = tuple(map(Rule.parse, ["isgri/isgri_spectrum=1", "isgri/*=30", "*/isgri_lc=never"]))

    assert Freshness(rules).lifetime(recording()) == 30 * DAY
    assert Freshness(rules[2:]).lifetime(recording(T2="2023-11-14T00:00:00")) == FOR_EVER
    assert Freshness(rules[:1]).lifetime(recording()) == FOR_EVER


def test_a_recording_is_fresh_until_its_lifetime_has_passed() -> None:
    recent = recording(T2="2023-11-14T22:13:20.000")

    assert Freshness().is_fresh(recent, STORED_AT + HOUR - 1)
    assert not Freshness().is_fresh(recent, STORED_AT + HOUR)


def test_a_recording_of_a_clock_that_was_ahead_is_fresh_only_if_its_data_are_old() -> None:
    now = STORED_AT - 400 * DAY

    assert not Freshness().is_fresh(recording(T2="2022-10-09T00:00:00"), now)  # stored a day later, or before it ended
    assert Freshness().is_fresh(recording(T2="2003-03-16T00:03:12.0"), now)
    assert not Freshness((Rule.parse("isgri/*=30"),)).is_fresh(recording(T2="2003-03-16T00:03:12.0"), now)


def test_clocks_of_machines_that_share_a_folder_may_differ_a_little() -> None:
    assert Freshness().is_fresh(recording(T2="2023-11-14T22:13:20.000"), STORED_AT - CLOCK_TOLERANCE)


@pytest.mark.parametrize(
    "text", ["", "isgri", "isgri/x", "isgri/x=", "/x=1", "isgri/=1", "a/b=-1", "a/b=nan", "a/b=soon"]
)
def test_a_rule_that_cannot_be_parsed_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|could not convert"):
        Rule.parse(text)
