"""Untrusted text in a figure: no mathtext, no control characters."""

from __future__ import annotations

from oda_proxy.query.message_text import printable


def plain(text: str) -> str:
    """Return a text that matplotlib draws as it is: `$` begins no formula, and what does not print is escaped."""
    return printable(text).replace("$", r"\$")
