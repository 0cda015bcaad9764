"""Arguments of the commands that run a program: `record` and `replay`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oda_proxy.commands import argument_types
from oda_proxy.config.options import RECORD, REPLAY
from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oda_proxy.commands.store_arguments import AddCommand, OwnArguments

_NAMES = ("record", "replay")


def add_commands(add: AddCommand) -> None:
    """Add the commands to the parser."""
    record = add("record", _record, RECORD, "run a command, and record its requests as a capsule")
    record.add(
        "-o",
        "--output",
        dest="folder",
        type=argument_types.path,
        metavar="DIR",
        required=True,
        help="folder, or .zip file, of the new capsule",
    )
    record.add("--include-private", action="store_true", help="also record responses to requests with a token")
    record.add("--replace", action="store_true", help="replace an existing capsule")
    _program(record)
    replay = add("replay", _replay, REPLAY, "run a command, answered from a capsule, without network")
    replay.add("folder", type=argument_types.path, metavar="CAPSULE", help="folder, .zip or .tar.gz file of a capsule")
    _program(replay)


def split(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Split a command line at the first `--` into our arguments and the program to run.

    argparse would take options of the program for ours.
    """
    if "--" not in words or words[0] not in _NAMES:
        return words, []
    index = words.index("--")
    return words[:index], words[index + 1 :]


def _program(own: OwnArguments) -> None:
    own.add("program", nargs="*", metavar="-- COMMAND", help="the program to run, with its arguments")


def _with_program(values: dict[str, Any], usage: str) -> dict[str, Any]:
    """Return the values. Raises UsageError, with the `usage` of the command, if there is no program to run."""
    if not values["program"]:
        raise UsageError(f"there is no command to run: write it after --, as in oda-proxy {usage} -- COMMAND")
    return values


def _record(values: dict[str, Any]) -> int:
    from oda_proxy.commands import record_replay

    return record_replay.record(**_with_program(values, "record -o DIR"))


def _replay(values: dict[str, Any]) -> int:
    from oda_proxy.commands import record_replay

    return record_replay.replay(**_with_program(values, "replay DIR"))
