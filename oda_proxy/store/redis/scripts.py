"""Reads the scripts that Redis runs; each follows `keys.lua`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_BEGIN: Final = Path(__file__).with_name("keys.lua")


def read_script(file: Path) -> str:
    """Return the text of a script."""
    return _BEGIN.read_text("utf-8") + file.read_text("utf-8")
