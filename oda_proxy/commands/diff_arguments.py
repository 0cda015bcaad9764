"""The command that compares recordings with today, as the command line offers it; imported when it is asked for."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oda_proxy.commands.store_arguments import Add


def add_to(add: Add) -> None:
    """Add the command."""
    diff = add("diff", _diff, (), "ask a dispatcher anew for what was recorded, and say what differs")
    diff.add("folder", type=Path, metavar="CAPSULE", help="a capsule, or a folder of fixtures")
    diff.add("--upstream", metavar="URL", help="dispatcher to ask (default the one that it was recorded from)")
    diff.add("--rtol", type=_tolerance, default=0.0, metavar="X", help="difference, relative, that is none (default 0)")
    diff.add("--atol", type=_tolerance, default=0.0, metavar="X", help="difference, absolute, that is none (default 0)")
    diff.add(
        "--ignore",
        dest="ignored",
        action="append",
        default=[],
        metavar="KEYWORD",
        help="card of headers not to compare, as CREATOR or 'STAMP*' (may be given again)",
    )
    diff.add("--json", dest="as_json", action="store_true", help="say it as JSON")


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ArgumentTypeError(f"{text!r} is no number from 0")
    return value


def _diff(values: dict[str, Any]) -> int:
    from oda_proxy.commands import diff

    return diff.diff(**values)
