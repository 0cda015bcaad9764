"""Where the files lie that tests read."""

from __future__ import annotations

from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = CHECKOUT / "docs"
FIXTURES: Final = CHECKOUT / "fixtures"
"""The fixtures that ship with the project."""
SUPPORT: Final = Path(__file__).resolve().parent
SAMPLES: Final = SUPPORT / "samples"
"""Files that earlier releases, of this project or of others, have written."""
CAPTURES: Final = SUPPORT / "captures"
"""Answers of real dispatchers."""
CLIENT_SCRIPTS: Final = CHECKOUT / "tests" / "clients" / "scripts"
"""What runs beside an unmodified client."""
NETWORK_GUARD: Final = SUPPORT / "network_guard"
"""What on `PYTHONPATH` keeps a program from reaching other machines."""
