"""Runs a command with a recorder or a replayer, and prints a summary of its requests on standard error."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from oda_proxy.capsule.writer import SOURCE_DATE_EPOCH
from oda_proxy.commands import formatting
from oda_proxy.commands.output import warn
from oda_proxy.config.options import PRODUCTION
from oda_proxy.query.message_text import printable
from oda_proxy.recordings.redaction import REMOVED
from oda_proxy.run import child, monitor
from oda_proxy.run.home import empty_caches
from oda_proxy.run.page_recorder import PagePolicy
from oda_proxy.run.recorder import recording
from oda_proxy.run.replayer import replaying

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from oda_proxy.http.scope import Scope
    from oda_proxy.run.child import CommandResult
    from oda_proxy.run.home import RunHome
    from oda_proxy.run.recorder import Recorder
    from oda_proxy.run.replayer import Replayer
    from oda_proxy.run.summary import RunSummary

_MAX_LINES = 20
"""Items of one kind that are printed one by one."""

_MAX_PROGRAMS = 5
"""Programs that are named in one line."""

_MAX_COMMAND = 160
"""Characters of a command that is printed."""

_BY_SIGNAL = 128
"""Exit status of a command that was ended by a signal, less the number of the signal."""


def record(
    folder: Path,
    program: Sequence[str],
    *,
    upstream: str | None,
    include_private: bool,
    replace: bool,
    max_page: int,
    keep_post: Sequence[str],
) -> int:
    """Run a command and record its requests; return its exit status."""

    async def run() -> int:
        async with recording(
            folder,
            command=program,
            environment=os.environ,
            upstream=upstream,
            include_private=include_private,
            replace=replace,
            pages=PagePolicy(max_page, frozenset(keep_post)),
        ) as recorder:
            with empty_caches(os.environ) as home:
                result, bypass = await _run_in(recorder, home, program)
            recorder.exit_status = result.status
        _print([*_end_of(result), *_record_summary(recorder, folder, program, home, bypass)])
        return result.status

    _prepare(program)
    return asyncio.run(run())


def replay(
    folder: Path,
    program: Sequence[str],
    *,
    time_scale: float,
    as_of: Scope | None,
    upstream: str | None,
    former_url: Sequence[str],
) -> int:
    """Run a command with answers from a capsule; return its exit status.

    What was recorded of a dispatcher at a former address answers requests to `upstream`, or else to production, too.
    """

    async def run() -> int:
        async with replaying(
            folder, time_scale=time_scale, as_of=as_of, upstream=upstream or PRODUCTION, former_urls=former_url
        ) as replayer:
            with empty_caches(os.environ) as home:
                result, bypass = await _run_in(replayer, home, program)
        _print([*_end_of(result), *_replay_summary(replayer, folder), *_bypass_summary(bypass), *_home_summary(home)])
        return result.status

    _prepare(program)
    return asyncio.run(run())


def _prepare(program: Sequence[str]) -> None:
    """Set up logging, and check that the command exists."""
    logging.basicConfig(format="oda-proxy: %(message)s", level=logging.WARNING, stream=sys.stderr)
    child.find(program[0])


@dataclass(frozen=True, slots=True)
class _Bypass:
    """What programs of a run did without the proxy, as far as it is known."""

    connections: Sequence[str] = ()
    sampled_programs: Sequence[str] = ()
    """Programs whose connections were only looked up now and then."""
    are_complete: bool = True
    """Whether all reports of Python programs were read."""


async def _run_in(handler: Recorder | Replayer, home: RunHome, program: Sequence[str]) -> tuple[CommandResult, _Bypass]:
    """Run a command in the environment of its listeners; return its end, and what bypassed them."""
    listeners = handler.listeners
    environ = {**listeners.program_environment(os.environ), **home.variables}
    environ[SOURCE_DATE_EPOCH] = str(handler.source_date_epoch)
    if (observer := listeners.monitor) is None:
        return await child.run(program, environ), _Bypass()
    async with observer.watching(program[0]):
        result = await child.run(program, environ)
    return result, _Bypass(observer.connections, observer.sampled_programs, are_complete=observer.is_complete)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        warn(line)


def _end_of(result: CommandResult) -> Iterator[str]:
    number = result.status - _BY_SIGNAL
    if number in signal.valid_signals():
        yield f"the command was ended by {signal.Signals(number).name}"
    if result.left_behind:
        yield f"ended {formatting.number(result.left_behind, 'process', 'processes')} that the command left behind"


def _record_summary(
    recorder: Recorder, folder: Path, program: Sequence[str], home: RunHome, bypass: _Bypass
) -> Iterator[str]:
    """Return what was recorded, what was not and why, and how to replay it."""
    summary = recorder.summary
    recorded = [
        f"{formatting.number(summary.recordings, 'answer')} with products, {formatting.size(summary.size)}"
        if summary.recordings
        else "",
        formatting.number(summary.failures, "failure") if summary.failures else "",
        formatting.number(len(summary.descriptions), "description") if summary.descriptions else "",
        f"{formatting.number(len(summary.exchanges), 'page')} of other servers" if summary.exchanges else "",
    ]
    if recorder.dispatchers:
        yield f"dispatchers: {', '.join(recorder.dispatchers)}"
    else:
        yield "the command sent no request to a dispatcher"
    yield f"recorded in {folder}: {'; '.join(filter(None, recorded)) or 'nothing'}"
    yield from _counted("not recorded", summary.not_recorded)
    if summary.private:
        private = formatting.number(summary.private, "answer that was", "answers that were")
        yield f"  left out: {private} requested with a token; --include-private records such answers"
    yield from _bypass_summary(bypass)
    yield from _removed(summary.command, program)
    yield from _home_summary(home)
    if any(recorded):
        is_whole = not (summary.not_recorded or summary.private or bypass.connections or recorder.was_interrupted)
        what = "to run it again, anywhere" if is_whole else "to run it again, as far as it was recorded"
        yield f"{what}: oda-proxy replay {shlex.quote(str(folder))} -- {_repeated(summary, program)}"


def _bypass_summary(bypass: _Bypass) -> Iterator[str]:
    """Return which servers programs connected to without the proxy, and which programs may have done so unseen."""
    yield from _counted("not seen, past oda-proxy", dict.fromkeys(bypass.connections, 1))
    if bypass.sampled_programs:
        names = [printable(name) for name in bypass.sampled_programs]
        if len(names) > _MAX_PROGRAMS:
            names[_MAX_PROGRAMS:] = [f"{len(names) - _MAX_PROGRAMS} more"]
        how = (
            f"looked up {1 / monitor.INTERVAL:.0f} times a second at most, so that short ones may be missing here"
            if sys.platform == "linux"
            else "not known on this system"
        )
        yield f"  connections past oda-proxy of {', '.join(names)}: {how}"
    if not bypass.are_complete:
        yield f"  what Python programs reported beyond {formatting.size(monitor.MAX_LOG)} was not read"


def _home_summary(home: RunHome) -> Iterator[str]:
    """Return what in the home folder made the run differ, or may have."""
    for cache in home.replaced:
        yield f"  not used: {cache}: the run had an empty one"
    if home.files:
        yield f"  the run may depend on files that are not in the capsule: {', '.join(home.files)}"


def _removed(recorded: Sequence[str], program: Sequence[str]) -> Iterator[str]:
    """Return what of the command is not in the capsule."""
    removed = sum(REMOVED in word for word in recorded)
    if removed and len(recorded) < len(program):
        yield "  left out: the command, which may hold a secret"
    elif removed:
        yield f"  left out: {formatting.number(removed, 'argument')} of the command that may hold a secret"


def _repeated(summary: RunSummary, program: Sequence[str]) -> str:
    """Return the command where it fits into a line and holds no secret."""
    command = shlex.join(program)
    has_secret = any(REMOVED in word for word in summary.command)
    return command if len(command) <= _MAX_COMMAND and command.isprintable() and not has_secret else "COMMAND..."


def _replay_summary(replayer: Replayer, folder: Path) -> Iterator[str]:
    """Return what was used of a capsule, what was not, and what it lacks."""
    used, unused, missed = len(replayer.used), len(replayer.unused), len(replayer.missed)
    if replayer.requests:
        yield f"replayed from {folder}: {used} of {used + unused} used, {missed or 'nothing'} missed"
    else:
        yield f"the command sent no request: 0 of {unused} of {folder} used"
    yield from _counted("missed", replayer.missed)
    yield from _counted("unused", dict.fromkeys(replayer.unused, 1))


def _counted(label: str, lines: Mapping[str, int]) -> Iterator[str]:
    """Return items of one kind, each with its count where that is more than one."""
    for line, count in list(lines.items())[:_MAX_LINES]:
        yield f"  {label}: {printable(line)}{f' ({count} times)' if count > 1 else ''}"
    if len(lines) > _MAX_LINES:
        yield f"  {label}: and {len(lines) - _MAX_LINES} more"
