"""Clients may send some requests a second, and receive some bytes a day."""

from __future__ import annotations

import pytest

from oda_proxy.access.client_limits import DAY, MAX_CLIENTS, ClientLimiter, ClientLimits


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def admitted(limiter: ClientLimiter, client: str, requests: int = 100) -> int:
    return sum(limiter.admit(client) is None for _ in range(requests))


@pytest.mark.parametrize(("rate", "burst"), [(5.0, 10), (0.1, 1), (1.0, 2)])
def test_a_client_is_refused_after_a_burst_until_its_requests_are_granted_again(
    clock: Clock, rate: float, burst: int
) -> None:
    limiter = ClientLimiter(ClientLimits(rate=rate), clock)

    assert admitted(limiter, "one") == burst
    assert admitted(limiter, "other") == burst
    refusal = limiter.admit("one")
    assert refusal
    assert refusal.retry_after == pytest.approx(1 / rate)
    clock.now += refusal.retry_after
    assert admitted(limiter, "one") == 1
    clock.now += DAY
    assert admitted(limiter, "one") == burst


def test_what_is_refused_is_not_counted(clock: Clock) -> None:
    limiter = ClientLimiter(ClientLimits(rate=1.0), clock)
    admitted(limiter, "one", 1000)

    clock.now += 1.0

    assert limiter.admit("one") is None


def test_a_client_is_refused_once_it_has_received_its_bytes_of_a_day(clock: Clock) -> None:
    limiter = ClientLimiter(ClientLimits(daily_bytes=86400), clock)

    for _ in range(8):
        assert limiter.admit("one") is None
        limiter.charge("one", 12_000)
    refusal = limiter.admit("one")
    assert refusal
    assert refusal.reason == "this client has received more than 86400 bytes a day"
    assert refusal.retry_after == pytest.approx(9601)
    assert limiter.admit("other") is None
    clock.now += refusal.retry_after
    assert limiter.admit("one") is None


def test_both_limits_hold(clock: Clock) -> None:
    limiter = ClientLimiter(ClientLimits(rate=1.0, daily_bytes=10), clock)
    assert limiter.admit("one") is None
    limiter.charge("one", 100)

    assert "bytes" in (refusal.reason if (refusal := limiter.admit("one")) else "")
    clock.now += 10 * DAY
    assert admitted(limiter, "one") == 2


def test_without_a_limit_nothing_is_refused(clock: Clock) -> None:
    limiter = ClientLimiter(ClientLimits(), clock)
    limiter.charge("one", 10**15)

    assert admitted(limiter, "one", 1000) == 1000
    assert not ClientLimits()
    assert ClientLimits(rate=1.0)


def test_a_clock_that_goes_back_grants_nothing(clock: Clock) -> None:
    limiter = ClientLimiter(ClientLimits(rate=1.0), clock)
    admitted(limiter, "one")
    clock.now -= 500.0

    assert limiter.admit("one")


def test_many_clients_need_no_more_memory_and_the_last_ones_are_counted(clock: Clock) -> None:
    limiter = ClientLimiter(ClientLimits(rate=0.01), clock)
    for number in range(2 * MAX_CLIENTS):
        clock.now += 0.001
        limiter.admit(f"client {number}")

    assert limiter.admit(f"client {2 * MAX_CLIENTS - 1}")
