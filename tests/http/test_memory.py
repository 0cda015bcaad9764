"""How much memory answers take that are processed at the same time."""

from __future__ import annotations

import asyncio

import pytest

from oda_proxy.http.memory import COPIES, ProcessingBudget


class Work:
    """Answers that are processed until they are released."""

    def __init__(self, limit: int) -> None:
        self.budget = ProcessingBudget(COPIES * limit)
        self.processed: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, name: str, size: int) -> None:
        self.gates[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._process(name, size))
        await self.settle()

    async def finish(self, name: str) -> None:
        self.gates[name].set()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def _process(self, name: str, size: int) -> None:
        async with self.budget.reserve(size):
            self.processed.append(name)
            await self.gates[name].wait()


async def test_answers_are_processed_together_while_they_fit() -> None:
    work = Work(100)
    for name, size in (("a", 60), ("b", 40), ("c", 50), ("d", 10)):
        await work.start(name, size)
    assert work.processed == ["a", "b"], "d does not overtake c"

    await work.finish("b")
    assert work.processed == ["a", "b"]
    await work.finish("a")
    assert work.processed == ["a", "b", "c", "d"]


async def test_an_answer_that_never_fits_is_processed_alone() -> None:
    work = Work(100)
    await work.start("small", 1)
    await work.start("huge", 1000)
    await work.start("other", 1)
    assert work.processed == ["small"]

    await work.finish("small")
    assert work.processed == ["small", "huge"]
    await work.finish("huge")
    assert work.processed == ["small", "huge", "other"]


@pytest.mark.parametrize("is_admitted", [False, True])
async def test_an_answer_whose_client_disconnects_leaves_room_for_others(*, is_admitted: bool) -> None:
    work = Work(100)
    await work.start("first", 100)
    await work.start("cancelled", 100)
    await work.start("last", 100)
    if is_admitted:
        work.gates["first"].set()
        await asyncio.sleep(0)  # it has released its memory to the second, which has not yet run
        await asyncio.sleep(0)
    work.tasks["cancelled"].cancel()
    await work.finish("first")

    assert work.processed[-1] == "last"
    await work.finish("last")
    await work.start("after", 100)
    assert work.processed[-1] == "after"


async def test_an_error_releases_the_memory() -> None:
    work = Work(100)
    with pytest.raises(ValueError, match="x"):
        async with work.budget.reserve(100):
            raise ValueError("x")

    await work.start("next", 100)
    assert work.processed == ["next"]


async def test_what_is_held_is_reserved_once_for_all_steps_and_until_the_end() -> None:
    work = Work(100)

    async with work.budget.hold():
        async with work.budget.reserve(60):
            pass
        await work.start("other", 60)
        async with asyncio.timeout(5), work.budget.reserve(1000):
            assert work.processed == [], "what was parsed is still in memory"

    await work.settle()
    assert work.processed == ["other"]
    await work.finish("other")
    await work.start("after", 100)
    assert work.processed == ["other", "after"]


async def test_an_error_releases_what_is_held() -> None:
    work = Work(100)
    with pytest.raises(ValueError, match="x"):
        async with work.budget.hold(), work.budget.reserve(100):
            raise ValueError("x")

    await work.start("next", 100)
    assert work.processed == ["next"]
