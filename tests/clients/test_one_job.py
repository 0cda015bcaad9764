"""Many unmodified clients that send the same query at once share one job and its data, whatever fails meanwhile."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.crowds import SCENES, Result, Stage, together

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.real

ONE = [("1.3.5", 1)]
MANY = [*[("1.3.5", 50)] * 2, ("1.0", 10)]
"""`make soak` has twice as many, in all scenes."""
SOME = [("1.3.5", 20), ("1.0", 5)]
SOME_OF_TODAY = [("1.3.5", 25)]
"""1.0 does not retry: it fails when the proxy is killed."""
FEW = 3
"""Polls more than for one client: the pauses between polls grow with the age of a job, which varies."""


@pytest.fixture(scope="module")
def results(client_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """Run all scenes, and one client alone, at the same time."""
    pythons = {version: client_python(version) for version, _ in MANY}

    def stage(crowd: list[tuple[str, int]]) -> Stage:
        return Stage(tmp_path_factory.mktemp("stage"), pythons.__getitem__, crowd, time_scale=2.0)

    crowds = {"all at once": MANY, "the proxy killed and started again": SOME_OF_TODAY}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        alone = pool.submit(together, stage(ONE))
        scenes = {name: pool.submit(scene, stage(crowds.get(name, SOME))) for name, scene in SCENES.items()}
        return {"alone": alone.result(), **{name: one.result() for name, one in scenes.items()}}


@pytest.mark.parametrize("name", SCENES)
def test_all_clients_get_the_data_that_one_client_alone_gets(results: dict[str, Result], name: str) -> None:
    size = 110 if name == "all at once" else 25
    (digest,) = results["alone"].outcomes

    assert results[name].outcomes == {digest: size}


@pytest.mark.parametrize("name", SCENES)
def test_the_dispatcher_sees_one_submission(results: dict[str, Result], name: str) -> None:
    """A dispatcher that is started again has lost the job: each of the two sees one submission."""
    result = results[name]

    assert (result.upstream["jobs"], result.upstream["asked"]["new"]) == (1, 1)
    if result.before:
        assert (result.before["jobs"], result.before["asked"]["new"]) == (1, 1)


@pytest.mark.parametrize("name", SCENES)
def test_the_dispatcher_is_polled_as_for_one_client(results: dict[str, Result], name: str) -> None:
    assert 0 < results[name].polls <= results["alone"].polls + FEW


@pytest.mark.parametrize("name", SCENES)
def test_the_dispatcher_sends_the_products_once(results: dict[str, Result], name: str) -> None:
    assert sum(results[name].upstream["served"].values()) == 1
