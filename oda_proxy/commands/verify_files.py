"""The command `verify` for a folder of fixtures or a capsule, or an archive of either."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oda_proxy.capsule.source_folder import is_capsule
from oda_proxy.commands.output import print_json, print_lines
from oda_proxy.errors import UsageError
from oda_proxy.files.archives import open_tree

if TYPE_CHECKING:
    from pathlib import Path


def verify(folder: Path, *, fix: bool, as_json: bool) -> int:
    """Check a folder of fixtures or a capsule, and print each fault in one line; the exit status is 1 if any."""
    from oda_proxy.capsule import capsule  # imports numpy and astropy
    from oda_proxy.fixture import verification

    if fix:
        raise UsageError("verify --fix repairs a store; it does not repair a folder of fixtures or a capsule")
    with open_tree(folder) as tree:
        if is_capsule(tree):
            sound, faults = "the capsule is sound", [str(error) for error in capsule.verify(tree)]
        else:
            sound, faults = "all fixtures are sound", [str(error) for error in verification.verify(tree)]
    if as_json:
        print_json({"folder": str(folder), "sound": not faults, "faults": faults})
    else:
        print_lines(faults or [f"{folder}: {sound}"])
    return 1 if faults else 0
