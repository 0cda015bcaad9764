"""JSON files that begin with the version of their format, in a folder that several releases use."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_BEGINNING = re.compile(rb'\s*\{\s*"format":\s*(\d{1,9})\s*[,}]')


def path_of_format(file: Path, version: int) -> Path:
    """Return the path that a file of this format has: another one where the file of another release is, which stays.

    Raises OSError where the file exists and cannot be read.
    """
    try:
        with file.open("rb") as handle:
            found = _BEGINNING.match(handle.read(100))
    except FileNotFoundError:
        return file
    if found is None or int(found[1]) == version:
        return file
    return file.with_name(f"{file.stem}.format-{version}{file.suffix}")
