"""Types of command-line arguments that are not options of `oda_proxy.config`.

Each raises ArgumentTypeError, whose message argparse prints with the name of the argument.
"""

from __future__ import annotations

import math
import re
import time
from argparse import ArgumentTypeError
from pathlib import Path

from oda_proxy.config.options import RECORD
from oda_proxy.config.sources import value_of
from oda_proxy.errors import OdaProxyError, UsageError
from oda_proxy.http.scope import parse_name
from oda_proxy.store.amounts import parse_size, parse_time_before


def path(text: str) -> Path:
    """Parse the path of a file or folder."""
    if not text.strip():
        raise ArgumentTypeError(f"must be a path, not {text!r}")
    return Path(text)


def upstream(text: str) -> str:
    """Parse the URL of a dispatcher."""
    try:
        url: str = value_of(RECORD[0], text, "it")
    except UsageError as error:
        raise ArgumentTypeError(str(error).removeprefix("it ")) from None
    return url


def time_before(text: str) -> float:
    """Parse a date or a time (ISO, UTC by default), or an age such as `30d`; return s since 1970 (UTC)."""
    try:
        return parse_time_before(text, time.time())
    except ValueError:
        raise ArgumentTypeError(
            f"must be a date such as 2026-01-31, or an age in min, h, d or w such as 30d, not {text!r}"
        ) from None


def size(text: str) -> int:
    """Parse a size in bytes."""
    try:
        return parse_size(text)
    except ValueError:
        raise ArgumentTypeError(f"must be a size such as 500MB or 2GiB, not {text!r}") from None


def collection(text: str) -> str:
    """Parse the name of a collection."""
    try:
        return parse_name(text)
    except OdaProxyError as error:
        raise ArgumentTypeError(str(error)) from None


def count(text: str) -> int:
    """Parse a number from 1."""
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 10**9):
        raise ArgumentTypeError(f"must be a number from 1, not {text!r}")
    return int(text)


def days(text: str) -> float:
    """Parse a number of days, from 0."""
    return _number_from_0(text, "days")


def seconds(text: str) -> float:
    """Parse a number of seconds, from 0."""
    return _number_from_0(text, "seconds")


def _number_from_0(text: str, unit: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ArgumentTypeError(f"must be a number of {unit} from 0, not {text!r}")
    return value


def index(text: str) -> int:
    """Parse a whole number, from 0."""
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ArgumentTypeError(f"must be a whole number from 0, not {text!r}")
    return int(text)


def tolerance(text: str) -> float:
    """Parse the tolerance of a comparison, from 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ArgumentTypeError(f"must be a number from 0, not {text!r}")
    return value
