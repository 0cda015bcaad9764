"""The circuit breaker: its table line by line, and its invariants."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from oda_proxy.upstream.breaker import FAILURES, FIRST_PAUSE, MAX_PAUSE, TRIAL_TIMEOUT, Attempt, Breaker
from tests.support.examples import examples


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def fail(breaker: Breaker, times: int = FAILURES) -> None:
    for request in [breaker.begin() for _ in range(times)]:
        breaker.record_failure(request)


def test_it_is_closed_at_first(breaker: Breaker) -> None:
    assert (breaker.state, breaker.failures, breaker.wait()) == ("closed", 0, 0.0)


def test_failures_that_are_not_in_a_row_do_not_open_it(breaker: Breaker) -> None:
    for _ in range(3):
        fail(breaker, FAILURES - 1)
        breaker.record_success()

    assert (breaker.state, breaker.failures) == ("closed", 0)


def test_failures_in_a_row_open_it_for_a_pause(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)

    assert (breaker.state, breaker.failures, breaker.wait()) == ("open", FAILURES, FIRST_PAUSE)
    clock.now += 0.75 * FIRST_PAUSE
    assert breaker.wait() == 0.25 * FIRST_PAUSE


def test_after_the_pause_one_request_is_the_trial(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += FIRST_PAUSE

    assert breaker.wait() == 0.0
    breaker.begin()
    assert (breaker.state, breaker.wait()) == ("half-open", FIRST_PAUSE)


def test_each_trial_that_fails_doubles_the_pause_up_to_the_maximum(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    pauses = []
    for _ in range(8):
        pauses.append(breaker.wait())
        clock.now += pauses[-1]
        breaker.record_failure(breaker.begin())

    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, MAX_PAUSE, MAX_PAUSE]


def test_a_trial_that_succeeds_closes_it_and_resets_the_pause(breaker: Breaker, clock: Clock) -> None:
    for _ in range(2):
        fail(breaker)
        assert breaker.wait() == FIRST_PAUSE
        clock.now += FIRST_PAUSE
        breaker.begin()
        breaker.record_success()
        assert (breaker.state, breaker.wait(), breaker.failures) == ("closed", 0.0, 0)


def test_after_an_abandoned_trial_the_next_request_is_the_trial(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += FIRST_PAUSE
    breaker.record_abandoned(breaker.begin())

    assert (breaker.state, breaker.wait()) == ("open", 0.0)


def test_a_trial_that_takes_long_does_not_block_others_for_ever(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += FIRST_PAUSE
    long = breaker.begin()
    clock.now += TRIAL_TIMEOUT

    assert (breaker.state, breaker.wait()) == ("open", 0.0)
    breaker.begin()
    breaker.record_failure(long)  # no longer the trial
    assert breaker.state == "half-open"


def test_a_response_to_an_earlier_request_closes_it(breaker: Breaker) -> None:
    breaker.begin()
    fail(breaker)
    breaker.record_success()

    assert breaker.state == "closed"


def test_a_failure_of_an_earlier_request_does_not_prolong_the_pause(breaker: Breaker, clock: Clock) -> None:
    earlier = breaker.begin()
    fail(breaker)
    clock.now += FIRST_PAUSE
    breaker.record_failure(earlier)

    assert (breaker.wait(), breaker.failures) == (0.0, FAILURES + 1)


class AnyOrder(RuleBasedStateMachine):
    """Requests are sent, end and are abandoned in any order, and time passes."""

    requests: Bundle[Attempt] = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(self.clock)
        self.failures = 0
        self.failed_trials = 0
        self.trial: Attempt | None = None
        self.trial_began = 0.0

    @precondition(lambda self: self.breaker.wait() == 0)
    @rule(target=requests)
    def a_request_is_sent(self) -> Attempt:
        request = self.breaker.begin()
        if self.breaker.state != "closed":
            assert self.trial is None or self.clock.now - self.trial_began >= TRIAL_TIMEOUT
            self.trial, self.trial_began = request, self.clock.now
        return request

    @rule(request=consumes(requests))
    def it_succeeds(self, request: Attempt) -> None:
        self.breaker.record_success()
        self.failures, self.failed_trials, self.trial = 0, 0, None

    @rule(request=consumes(requests))
    def it_fails(self, request: Attempt) -> None:
        before = self.breaker.wait()
        self.breaker.record_failure(request)
        self.failures += 1
        if request is self.trial:
            self.trial = None
            self.failed_trials += 1
            assert self.breaker.wait() == min(FIRST_PAUSE * 2**self.failed_trials, MAX_PAUSE)
        else:
            assert self.breaker.wait() == (FIRST_PAUSE if self.failures == FAILURES else before)

    @rule(request=consumes(requests))
    def it_is_abandoned(self, request: Attempt) -> None:
        before = self.breaker.wait()
        self.breaker.record_abandoned(request)
        assert self.breaker.wait() == (0 if request is self.trial else before)
        if request is self.trial:
            self.trial = None

    @rule(seconds=st.sampled_from([0.125, 1.0, 8.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def it_is_closed_below_the_number_of_failures(self) -> None:
        assert self.breaker.failures == self.failures
        assert (self.breaker.state == "closed") == (self.failures < FAILURES)

    @invariant()
    def the_wait_has_a_maximum(self) -> None:
        longest = {"closed": 0.0, "half-open": FIRST_PAUSE, "open": MAX_PAUSE}
        assert 0 <= self.breaker.wait() <= longest[self.breaker.state]


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=examples(200), stateful_step_count=60, deadline=None)
