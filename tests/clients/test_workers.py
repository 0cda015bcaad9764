"""Unmodified clients that send the same query at once to a proxy of two processes share one job and its data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.crowds import Stage, leader_killed, together

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.crowds import Result

pytestmark = [pytest.mark.real, pytest.mark.slow]

SCENES = {"all at once": together, "the leader killed": leader_killed}
SIZE = 25


@pytest.mark.parametrize("name", SCENES)
def test_a_crowd_has_one_submission_and_the_same_data(
    client_python: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    scene: Callable[[Stage], Result] = SCENES[name]
    result = scene(Stage(tmp_path, client_python, [("1.3.5", SIZE)], time_scale=2.0, workers=2))

    ((digest, count),) = result.outcomes.items()
    assert count == SIZE, digest
    assert len(digest) == 64, digest
    assert (result.upstream["jobs"], result.upstream["asked"]["new"]) == (1, 1)
    assert sum(result.upstream["served"].values()) == 1
