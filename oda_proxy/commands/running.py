"""The commands that run a command as the command line offers them; what they do is imported when it is asked for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oda_proxy import config
from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from oda_proxy.commands.parsing import Add, Own


def add_to(add: Add) -> None:
    """Add the commands that run another."""
    record = add("record", _record, config.RECORD, "run a command, and keep what it asks for as a capsule")
    record.add("-o", "--output", dest="folder", type=Path, metavar="DIR", required=True, help="the capsule to make")
    record.add("--include-private", action="store_true", help="keep what is asked for with a token, too")
    record.add("--replace", action="store_true", help="replace the capsule that is there")
    _program(record)
    replay = add("replay", _replay, config.REPLAY, "run a command again, answered from a capsule, without a network")
    replay.add("folder", type=Path, metavar="DIR", help="the capsule")
    _program(replay)


def _program(own: Own) -> None:
    told = "what to run, as on a command line of its own"
    own.add("program", nargs=argparse.REMAINDER, metavar="-- COMMAND...", help=told)


def _words(values: dict[str, Any]) -> dict[str, Any]:
    """Give the values with the words of the command alone. Raises UsageError where there is none."""
    first, *rest = values["program"] or [""]
    words = rest if first == "--" else [first, *rest]
    if not words or not words[0]:
        raise UsageError("there is no command to run: say it behind --, as in oda-proxy record -o DIR -- COMMAND")
    return {**values, "program": words}


def _record(values: dict[str, Any]) -> int:
    from oda_proxy.commands import runs

    return runs.record(**_words(values))


def _replay(values: dict[str, Any]) -> int:
    from oda_proxy.commands import runs

    return runs.replay(**_words(values))
