"""Saying what a command has to say: lines for a person, or JSON for a program."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def say(lines: Iterable[str]) -> None:
    """Print lines on standard output."""
    for line in lines:
        print(line)  # noqa: T201 - what the command was asked for


def say_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    say([json.dumps(value, indent=2)])


def warn(line: str) -> None:
    """Say on standard error what a person should know."""
    print(f"oda-proxy: {line}", file=sys.stderr)  # noqa: T201 - the one line for a person
