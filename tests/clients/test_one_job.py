"""However many unmodified clients ask the same at once, and whatever happens meanwhile: one job, its data for all."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.crowds import STORIES, Seen, Stage, together

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.real

ONE = [("1.3.5", 1)]
MANY = [*[("1.3.5", 50)] * 4, ("1.0", 20)]
SOME = [("1.3.5", 20), ("1.0", 5)]
SOME_OF_TODAY = [("1.3.5", 25)]
"""1.0 does not try again: it ends when the server that it asks does, whoever that is."""
FEW = 3
"""Polls more than for one client: the pauses between them grow with the age of a job, which is not always the same."""


@pytest.fixture(scope="module")
def stories(client_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    """Play all stories, and one client alone, side by side."""
    pythons = {version: client_python(version) for version, _ in MANY}

    def stage(crowd: list[tuple[str, int]]) -> Stage:
        return Stage(tmp_path_factory.mktemp("stage"), pythons.__getitem__, crowd, time_scale=2.0)

    crowds = {"all at once": MANY, "the proxy killed and started again": SOME_OF_TODAY}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        alone = pool.submit(together, stage(ONE))
        played = {name: pool.submit(story, stage(crowds.get(name, SOME))) for name, story in STORIES.items()}
        return {"alone": alone.result(), **{name: one.result() for name, one in played.items()}}


@pytest.mark.parametrize("name", STORIES)
def test_all_clients_get_the_data_that_one_alone_gets(stories: dict[str, Seen], name: str) -> None:
    size = 220 if name == "all at once" else 25
    (digest,) = stories["alone"].ends

    assert stories[name].ends == {digest: size}


@pytest.mark.parametrize("name", STORIES)
def test_the_dispatcher_sees_one_submission(stories: dict[str, Seen], name: str) -> None:
    """One that was killed has forgotten it: then each of the two sees one."""
    seen = stories[name]

    assert (seen.upstream["jobs"], seen.upstream["asked"]["new"]) == (1, 1)
    if seen.before:
        assert (seen.before["jobs"], seen.before["asked"]["new"]) == (1, 1)


@pytest.mark.parametrize("name", STORIES)
def test_the_dispatcher_is_polled_as_for_one_client(stories: dict[str, Seen], name: str) -> None:
    assert 0 < stories[name].polls <= stories["alone"].polls + FEW


@pytest.mark.parametrize("name", STORIES)
def test_the_dispatcher_sends_the_products_once(stories: dict[str, Seen], name: str) -> None:
    assert sum(stories[name].upstream["served"].values()) == 1
