"""Commands on folders of fixtures, and on capsules: check one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oda_proxy.commands.output import say, say_json
from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def verify(folder: Path, *, fix: bool, as_json: bool) -> int:
    """Check a folder of fixtures or a capsule; say each fault in one line, and end with 1 where there is one."""
    from oda_proxy.capsule import capsule  # imports numpy and astropy
    from oda_proxy.fixture import verification

    if fix:
        raise UsageError("verify --fix mends a store; the files of a folder of fixtures, or a capsule, are not mended")
    is_capsule = capsule.is_capsule(folder)
    faults = [str(error) for error in (capsule.verify if is_capsule else verification.verify)(folder)]
    sound = "the capsule is sound" if is_capsule else "all fixtures are sound"
    if as_json:
        say_json({"folder": str(folder), "sound": not faults, "faults": faults})
    else:
        say(faults or [f"{folder}: {sound}"])
    return 1 if faults else 0
