"""Arguments of the command `diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oda_proxy.commands import argument_types

if TYPE_CHECKING:
    from oda_proxy.commands.store_arguments import AddCommand


def add_commands(add: AddCommand) -> None:
    """Add the command to the parser."""
    diff = add("diff", _diff, (), "rerun recorded queries, and show what differs")
    diff.add(
        "folder",
        type=argument_types.path,
        metavar="CAPSULE",
        help="a capsule or fixtures: a folder, .zip or .tar.gz",
    )
    diff.add(
        "--upstream",
        type=argument_types.upstream,
        metavar="URL",
        help="URL of the dispatcher (default the recorded one)",
    )
    diff.add(
        "--rtol",
        type=argument_types.tolerance,
        default=0.0,
        metavar="X",
        help="relative tolerance of numbers (default 0)",
    )
    diff.add(
        "--atol",
        type=argument_types.tolerance,
        default=0.0,
        metavar="X",
        help="absolute tolerance of numbers (default 0)",
    )
    diff.add(
        "--ignore",
        dest="ignored",
        action="append",
        default=[],
        metavar="KEYWORD",
        help="header card to ignore, such as CREATOR or 'STAMP*'; may be repeated",
    )
    diff.add("--json", dest="as_json", action="store_true", help="print JSON")


def _diff(values: dict[str, Any]) -> int:
    from oda_proxy.commands import diff

    return diff.diff(**values)
