"""Output of commands: lines for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def print_lines(lines: Iterable[str]) -> None:
    """Print lines on standard output."""
    for line in lines:
        print(line)  # noqa: T201 - the output of the command


def print_flushed(lines: Iterable[str]) -> None:
    """Print lines on standard output, each as soon as it is there, also to a pipe."""
    for line in lines:
        print(line, flush=True)  # noqa: T201 - the output of the command


def print_json_list(values: Iterable[Any]) -> None:
    """Print values as a list in JSON on standard output, each as soon as it is there."""
    lines = (json.dumps(value, indent=2).replace("\n", "\n  ") for value in values)
    before = "["
    for line in lines:
        print(f"{before}\n  {line}", end="", flush=True)  # noqa: T201 - the output of the command
        before = ","
    print("[]" if before == "[" else "\n]")  # noqa: T201 - the output of the command


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    print_lines([json.dumps(value, indent=2)])


def warn(line: str) -> None:
    """Print a message on standard error."""
    print(f"oda-proxy: {line}", file=sys.stderr)  # noqa: T201 - the message


def warn_of_no_match(upstream: str) -> None:
    """Print that filters select nothing."""
    warn(f"no recording of {upstream} meets the filters")
