"""Paths of files that tests read."""

from __future__ import annotations

from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = CHECKOUT / "docs"
FIXTURES: Final = CHECKOUT / "fixtures"
"""The fixtures that ship with the project."""
SUPPORT: Final = Path(__file__).resolve().parent
SAMPLES: Final = SUPPORT / "samples"
"""Files written by earlier releases of this project or of others."""
CAPTURES: Final = SUPPORT / "captures"
"""Responses of real dispatchers."""
CLIENT_SCRIPTS: Final = CHECKOUT / "tests" / "clients" / "scripts"
"""Scripts that run with an unmodified client."""
NETWORK_GUARD: Final = SUPPORT / "network_guard"
"""A folder for `PYTHONPATH` that keeps a program from contacting other machines."""
