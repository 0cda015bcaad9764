"""Which workers run, which one leads, and when the parent process gives up; without processes."""

from __future__ import annotations

from oda_proxy.workers.supervision import MAX_MISSED, MAX_SHORT_LIVES, SHORT_LIFE, Supervision


def started(count: int = 2) -> Supervision:
    """Return the state of a server whose workers are all ready at 0 s."""
    supervision = Supervision(count)
    for number in range(count):
        supervision.note_start(number, 0.0)
        supervision.note_ready(number, 0.0)
    return supervision


def test_the_first_worker_starts_alone_and_leads_once_it_is_ready() -> None:
    supervision = Supervision(3)
    assert supervision.due(0.0) == [0]
    supervision.note_start(0, 0.0)
    assert supervision.due(1.0) == []

    supervision.note_ready(0, 1.0)

    assert supervision.leader == 0
    assert supervision.due(1.0) == [1, 2]
    assert not supervision.was_complete


def test_the_server_is_complete_once_all_workers_are_ready() -> None:
    supervision = started(3)

    assert supervision.ready == (0, 1, 2)
    assert supervision.was_complete
    assert supervision.next_start() is None


def test_a_worker_that_is_ready_leads_when_the_leader_ends_and_goes_on_leading() -> None:
    supervision = started()
    supervision.note_end(0, 100.0)
    assert supervision.leader == 1

    supervision.note_start(0, 100.0)
    supervision.note_ready(0, 101.0)

    assert supervision.leader == 1


def test_without_a_ready_worker_nobody_leads_until_one_is() -> None:
    supervision = started()
    supervision.note_end(1, 100.0)
    supervision.note_start(1, 100.0)
    supervision.note_end(0, 100.5)
    assert supervision.leader is None

    supervision.note_ready(1, 101.0)

    assert supervision.leader == 1


def test_a_worker_that_ran_for_a_while_is_started_again_at_once() -> None:
    supervision = started()

    assert supervision.note_end(0, SHORT_LIFE) == 0.0
    assert supervision.due(SHORT_LIFE) == [0]


def test_pauses_grow_while_a_worker_ends_just_after_its_start_and_then_it_is_given_up() -> None:
    supervision = started()
    now, pauses = 0.0, []
    for _ in range(MAX_SHORT_LIVES):
        assert not supervision.has_given_up
        pauses.append(supervision.note_end(1, now))
        now = supervision.next_start() or now
        if not supervision.has_given_up:
            assert supervision.due(now) == [1]
            supervision.note_start(1, now)

    assert pauses == [0.0, 1.0, 2.0, 4.0, 8.0]
    assert supervision.has_given_up
    assert supervision.due(now) == []


def test_a_long_life_ends_a_row_of_short_ones() -> None:
    supervision = started()
    now = 0.0
    for life in [0.0] * (MAX_SHORT_LIVES - 1) + [SHORT_LIFE] + [0.0] * (MAX_SHORT_LIVES - 1):
        supervision.note_end(1, now + life)
        now = supervision.next_start() or 0.0
        supervision.note_start(1, now)

    assert not supervision.has_given_up


def test_a_worker_that_no_longer_reports_hangs() -> None:
    supervision = started()
    for _ in range(MAX_MISSED):
        assert supervision.hanging() == []
        supervision.note_heartbeat(1)

    assert supervision.hanging() == [0]


def test_a_worker_that_still_starts_does_not_hang() -> None:
    supervision = started()
    supervision.note_end(0, 100.0)
    supervision.note_start(0, 100.0)
    for _ in range(MAX_MISSED + 1):
        supervision.note_heartbeat(1)
        assert supervision.hanging() == []
