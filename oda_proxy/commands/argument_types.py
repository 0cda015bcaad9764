"""Types of command-line arguments that are not options of `oda_proxy.config`.

Each raises ArgumentTypeError, whose message argparse prints with the name of the argument.
"""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from pathlib import Path

from oda_proxy import config
from oda_proxy.errors import UsageError


def path(text: str) -> Path:
    """Parse the path of a file or folder."""
    if not text.strip():
        raise ArgumentTypeError(f"must be a path, not {text!r}")
    return Path(text)


def upstream(text: str) -> str:
    """Parse the URL of a dispatcher."""
    try:
        url: str = config.value_of(config.RECORD[0], text, "it")
    except UsageError as error:
        raise ArgumentTypeError(str(error).removeprefix("it ")) from None
    return url


def tolerance(text: str) -> float:
    """Parse the tolerance of a comparison, from 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ArgumentTypeError(f"must be a number from 0, not {text!r}")
    return value
