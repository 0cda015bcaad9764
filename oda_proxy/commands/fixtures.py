"""Commands on folders of fixtures: check one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oda_proxy.commands.said import say, say_json
from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def verify(folder: Path, *, fix: bool, as_json: bool) -> int:
    """Check a folder of fixtures; say each fault in one line, and end with 1 where there is one."""
    from oda_proxy import fixture  # heavy where arrays are read

    if fix:
        raise UsageError("verify --fix mends a store; the files of a folder of fixtures are yours to change")
    faults = [str(error) for error in fixture.verify(folder)]
    if as_json:
        say_json({"folder": str(folder), "sound": not faults, "faults": faults})
    else:
        say(faults or [f"{folder}: all fixtures are sound"])
    return 1 if faults else 0
