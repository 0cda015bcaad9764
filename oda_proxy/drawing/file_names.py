"""Names of files from untrusted text."""

from __future__ import annotations

import re
from typing import Final

_LONGEST: Final = 60


def safe_name(text: str) -> str:
    """Return a text as the name of a file on any system, without a suffix."""
    return re.sub(r"[^A-Za-z0-9+-]+", "_", text).strip("_")[:_LONGEST] or "product"
