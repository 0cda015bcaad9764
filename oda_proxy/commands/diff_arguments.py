"""Arguments of the command `diff`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oda_proxy.commands import argument_types
from oda_proxy.commands.output import warn
from oda_proxy.config.options import DIFF, UPSTREAM
from oda_proxy.config.settings import StoreOptions
from oda_proxy.config.sources import resolve_options
from oda_proxy.errors import UsageError
from oda_proxy.files.config_file import present_file

if TYPE_CHECKING:
    from oda_proxy.commands.store_arguments import AddCommand


def add_commands(add: AddCommand) -> None:
    """Add the command to the parser."""
    diff = add("diff", _diff, DIFF, "rerun recorded queries, or compare two versions, and show what differs")
    diff.add(
        "sources",
        nargs="+",
        type=argument_types.path,
        metavar="CAPSULE",
        help="a capsule or fixtures: a folder, .zip or .tar.gz; or two versions of recordings: KEY@DATE KEY@DATE",
    )
    diff.add(
        "--upstream",
        type=argument_types.upstream,
        metavar="URL",
        help="URL of the dispatcher (default the recorded one; for versions, the one whose store it is)",
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
    from oda_proxy.commands import diff, history

    sources, upstream = values.pop("sources"), values.pop("upstream")
    if len(sources) > 1 or _is_version(str(sources[0])):
        if len(sources) != 2:  # noqa: PLR2004 - a pair
            raise UsageError("diff takes a capsule, or two versions of recordings: KEY@2026-01-01 KEY@2026-06-01")
        configured = resolve_options((UPSTREAM,), {"upstream": upstream}, os.environ, present_file(), warn=warn)
        options = StoreOptions.pop({**values, "upstream": configured["upstream"]})
        return history.diff_versions([str(one) for one in sources], options=options, **_without_store(values))
    return diff.diff(sources[0], upstream=upstream, **_without_store(values))


def _is_version(source: str) -> bool:
    """Return whether a source is a version of a recording, and not the name of a folder or file."""
    return re.fullmatch(r"[0-9a-fA-F]{1,64}@.*", source) is not None and not Path(source).exists()


def _without_store(values: dict[str, Any]) -> dict[str, Any]:
    StoreOptions.pop(values := {**values, "upstream": ""})
    return values
