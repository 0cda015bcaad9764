"""The commands that run a command as the command line offers them; what they do is imported when it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from oda_proxy import config
from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oda_proxy.commands.store_arguments import Add, Own


_NAMES = ("record", "replay")


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


def split(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Split a command line at the first `--` where a command to run stands behind it: `program`.

    argparse would look for options of ours in it, and for further `--`.
    """
    if "--" not in words or words[0] not in _NAMES:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


def _program(own: Own) -> None:
    own.add("program", nargs="*", metavar="-- COMMAND", help="what to run, as on a command line of its own")


def _named(values: dict[str, Any], form: str) -> dict[str, Any]:
    """Give the values. Raises UsageError, with how the command is called, where there is no command to run."""
    if not values["program"]:
        raise UsageError(f"there is no command to run: say it behind --, as in oda-proxy {form} -- COMMAND")
    return values


def _record(values: dict[str, Any]) -> int:
    from oda_proxy.commands import record_replay

    return record_replay.record(**_named(values, "record -o DIR"))


def _replay(values: dict[str, Any]) -> int:
    from oda_proxy.commands import record_replay

    return record_replay.replay(**_named(values, "replay DIR"))
