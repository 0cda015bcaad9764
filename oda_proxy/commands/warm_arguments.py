"""Arguments of the command `warm`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oda_proxy.commands import argument_types
from oda_proxy.config.options import WARM

if TYPE_CHECKING:
    from oda_proxy.commands.store_arguments import AddCommand


def add_commands(add: AddCommand) -> None:
    """Add the command to the parser."""
    own = add("warm", _warm, WARM, "run queries ahead of the clients who will send them")
    own.add(
        "plan",
        nargs="?",
        type=argument_types.path,
        metavar="PLAN",
        help="file of queries, one JSON object in a line (or *.toml), or a capsule",
    )
    own.add(
        "--last-used", "--most-used", dest="last_used", type=argument_types.count, metavar="N",
        help="the N recordings of the store used last",
    )  # fmt: skip
    own.add(
        "--expiring-within",
        type=argument_types.days,
        metavar="DAYS",
        help="compute recordings of the store again that expire within so many days",
    )
    own.add(
        "--jobs", dest="parallel", type=argument_types.count, default=4, metavar="N", help="queries at once (default 4)"
    )
    own.add("--with-token", action="store_true", help="send the token ODA_TOKEN of the environment with each query")
    own.add("--dry-run", action="store_true", help="list which queries have a recording, and run none")
    own.add("--json", dest="as_json", action="store_true", help="print JSON")


def _warm(values: dict[str, Any]) -> int:
    from oda_proxy.commands import warm

    return warm.warm(**values)
