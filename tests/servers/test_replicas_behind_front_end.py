"""Clients of two releases behind nginx get one result of one job, whatever ends among three servers and their Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.front_end import nginx
from tests.support.replica_crowds import ReplicaStage, Shared, follower_cut, leader_killed, redis_restarted, share
from tests.support.replica_servers import QUICK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.slow]

CROWD = [("1.3.5", 8), ("1.0", 8)]


def all_in_turn(shared: Shared) -> None:
    """Let everything fail during one job: the soak program has the failures by themselves, and a hundred clients."""
    for fail in (follower_cut, redis_restarted, leader_killed):
        fail(shared)


def test_nobody_sees_that_the_network_redis_and_the_leader_failed_during_a_job(
    client_python: Callable[[str], Path], tmp_path: Path
) -> None:
    nginx()
    stage = ReplicaStage(tmp_path, client_python, CROWD, QUICK, time_scale=1.2, outage=1.0)

    assert share(stage, all_in_turn).faults(stage.size) == []
