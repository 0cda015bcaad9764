"""Repairs of texts and numbers, wherever they occur in an answer."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final


def null_for_nan(value: Any) -> Any:
    """Replace NaN and infinities, which are not JSON and a name for clients after 1.0, by null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def separated_null_line(value: Any) -> Any:
    r"""Insert a blank before a line that begins with `ull`: Python writes `\null`, which clients turn into `\None`."""
    if not isinstance(value, str) or "\n" not in value:  # one character is found much faster than several
        return value
    return value.replace("\null", "\n ull") if "\null" in value else value


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?Infinity|NaN|null|true|false')
_ESCAPE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|null")
_NOT_PYTHON = {
    "null": '""',
    "true": "1",
    "false": "0",
    "NaN": '"nan"',
    "Infinity": '"inf"',
    "-Infinity": '"-inf"',
}


def escaped(text: str) -> str:
    """Escape the strings of a JSON text so that Python evaluates them alike, and none contains `null`."""

    def replacement(found: re.Match[str]) -> str:
        match found[0]:
            case "null":
                return "n\\u0075ll"
            case "\\n" if found.string.startswith("ull", found.end()):
                return "\\u000a"
            case "\\/":
                return "/"
            case pair if len(pair) == len("\\ud83d\\ude00"):
                return str(json.loads(f'"{pair}"'))  # Python would read two characters
            case other:
                return other

    return _TOKEN.sub(lambda token: _ESCAPE.sub(replacement, token[0]) if token[0][0] == '"' else token[0], text)


def valid_python(text: str) -> str:
    """Return a JSON text that Python evaluates to the same, without null, true, false and NaN."""
    return _TOKEN.sub(lambda token: _NOT_PYTHON.get(token[0], token[0]), escaped(text))


def parsed_object(value: Any) -> Any:
    """Parse an object that was sent as JSON text; anything else is returned unchanged."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            inner = json.loads(value)
        except (ValueError, RecursionError):
            return value
        return inner if isinstance(inner, dict) else value
    return value


def interrupted_base64(text: Any) -> Any:
    """Insert a blank into the letters `null` in base64; decoders skip it."""
    if not isinstance(text, str) or not (_has_null(text) or ("\n" in text and "\null" in text)):
        return text
    return "".join(text.split()).replace("null", "nu ll")


_LARGE: Final = 64 * 1024
"""Characters of a text from which on numpy finds four letters in half of the time."""
_NULL: Final = int.from_bytes(b"null", "little")


def _has_null(text: str) -> bool:
    """Return whether a text has the letters `null`."""
    if len(text) < _LARGE or not text.isascii():
        return "null" in text
    import numpy as np

    for at in range(0, len(text), _LARGE):
        some = text[at : at + _LARGE + 3].encode("ascii")
        for begin in range(4):  # within a group of four bytes
            groups = np.frombuffer(some, "<u4", (len(some) - begin) // 4, begin) if len(some) > begin + 3 else ()
            if np.equal(groups, _NULL).any():
                return True
    return False
