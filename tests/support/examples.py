"""How many examples of a property are tried: all in `make test`, some in `make check`."""

from __future__ import annotations

import os
from typing import Final

FRACTION: Final = float(os.environ.get("ODA_PROXY_EXAMPLES", "1"))
FEWEST: Final = 10


def examples(number: int) -> int:
    """Return how many of `number` examples to try in this run: the part of them in `ODA_PROXY_EXAMPLES`, or all."""
    return max(min(number, FEWEST), round(number * FRACTION))
