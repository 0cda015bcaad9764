"""Running a command beside a recorder or a replayer, and saying on standard error what became of what it asked."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING, Any

from oda_proxy.commands import formatting
from oda_proxy.commands.output import warn
from oda_proxy.run import child
from oda_proxy.run.recorder import recording
from oda_proxy.run.replayer import replaying

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from oda_proxy.run.child import Ended
    from oda_proxy.run.recorder import Recorder
    from oda_proxy.run.replayer import Replayer

_MOST_LINES = 20
"""Things of one kind that are told one by one."""

_LONGEST = 160
"""Characters of a command that is told."""

_BY_SIGNAL = 128
"""What shells add to the number of a signal that ended a command."""


def record(folder: Path, program: Sequence[str], *, upstream: str | None, include_private: bool, replace: bool) -> int:
    """Run a command and keep what it asks for; end with its status."""

    async def run() -> int:
        async with recording(
            folder,
            command=program,
            environment=os.environ,
            upstream=upstream,
            include_private=include_private,
            replace=replace,
        ) as recorder:
            ended = await child.run(program, recorder.doors.within(os.environ))
            recorder.exit_status = ended.status
        _tell([*_how_it_ended(ended), *_recorded(recorder, folder, program)])
        return ended.status

    return _beside(program, run)


def replay(folder: Path, program: Sequence[str], *, time_scale: float) -> int:
    """Run a command, answered from a capsule; end with its status."""

    async def run() -> int:
        async with replaying(folder, time_scale=time_scale) as replayer:
            ended = await child.run(program, replayer.doors.within(os.environ))
        _tell([*_how_it_ended(ended), *_replayed(replayer, folder)])
        return ended.status

    return _beside(program, run)


def _beside(program: Sequence[str], run: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run what stands beside a command, once that was found."""
    logging.basicConfig(format="oda-proxy: %(message)s", level=logging.WARNING, stream=sys.stderr)
    child.find(program[0])
    return asyncio.run(run())


def _tell(lines: Iterable[str]) -> None:
    for line in lines:
        warn(line)


def _how_it_ended(ended: Ended) -> Iterator[str]:
    number = ended.status - _BY_SIGNAL
    if number in signal.valid_signals():
        yield f"the command was ended by {signal.Signals(number).name}"
    if ended.left_behind:
        yield f"ended {formatting.number(ended.left_behind, 'process', 'processes')} that the command left behind"


def _recorded(recorder: Recorder, folder: Path, program: Sequence[str]) -> Iterator[str]:
    """Say what was recorded, what was not and why, and how to run it again."""
    tally = recorder.tally
    kept = [
        f"{formatting.number(tally.recordings, 'answer')} with products, {formatting.size(tally.size)}"
        if tally.recordings
        else "",
        formatting.number(tally.failures, "failure") if tally.failures else "",
        formatting.number(len(tally.descriptions), "description") if tally.descriptions else "",
        f"{formatting.number(len(tally.pages), 'page')} of other servers" if tally.pages else "",
    ]
    if recorder.dispatchers:
        yield f"asked {', '.join(recorder.dispatchers)}"
    else:
        yield "the command asked no dispatcher"
    yield f"recorded in {folder}: {'; '.join(filter(None, kept)) or 'nothing'}"
    yield from _counted("not kept", tally.not_kept)
    if tally.private:
        private = formatting.number(tally.private, "answer that was", "answers that were")
        yield f"  left out: {private} asked for with a token; --include-private keeps such answers"
    if any(kept):
        again = shlex.join(program)
        yield f"to run it again, anywhere: oda-proxy replay {shlex.quote(str(folder))} -- {_short(again)}"


def _short(command: str) -> str:
    """Give a command where it fits into a line."""
    return command if len(command) <= _LONGEST and command.isprintable() else "COMMAND..."


def _replayed(replayer: Replayer, folder: Path) -> Iterator[str]:
    """Say what was used of a capsule, what was not, and what it lacks."""
    used, unused, missed = len(replayer.used), len(replayer.unused), len(replayer.missed)
    yield f"replayed from {folder}: {used} of {used + unused} used, {missed or 'nothing'} missed"
    yield from _counted("missed", replayer.missed)
    yield from _counted("unused", dict.fromkeys(replayer.unused, 1))


def _counted(what: str, lines: Mapping[str, int]) -> Iterator[str]:
    """Say things of one kind, each with how often it was so where that was more than once."""
    for line, count in list(lines.items())[:_MOST_LINES]:
        yield f"  {what}: {formatting.plain(line)}{f' ({count} times)' if count > 1 else ''}"
    if len(lines) > _MOST_LINES:
        yield f"  {what}: and {len(lines) - _MOST_LINES} more"
