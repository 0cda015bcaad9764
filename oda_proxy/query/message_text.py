"""Untrusted text as part of a message: printable, and short."""

from __future__ import annotations

from typing import Final

MAX_LENGTH: Final = 60
"""Longest name or value in a message, in characters."""


def printable(text: str) -> str:
    """Escape the characters of a text that do not print, such as control characters."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def shorten(text: str, longest: int = MAX_LENGTH) -> str:
    """Return a text that fits in a line of a message: unprintable characters escaped, a long text cut."""
    return printable(text if len(text) <= longest else f"{text[:longest]}...")
