"""Taking a job through its recorded states, in the time that they took."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from oda_proxy.jobs.job import State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from oda_proxy.jobs.running_job import RunningJob

_VISIBLE = frozenset({State.SUBMITTED, State.PROGRESS, State.READY})
"""States that clients receive."""


async def replay(
    running: RunningJob,
    timeline: Sequence[tuple[str, float]],
    *,
    scale: float,
    sleep: Callable[[float], Awaitable[None]],
) -> None:
    """Take a job through its recorded states; `scale` is a factor on their times, `sleep` waits for some s."""
    reached = 0.0
    for state, at in timeline:
        if at > reached:
            await sleep((at - reached) * scale)
            reached = at
        if state in _VISIBLE:
            running.job = replace(running.job, state=State(state))
            running.notify()
