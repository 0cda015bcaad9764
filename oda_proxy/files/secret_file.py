"""Files that hold one secret, such as a token."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

MAX_SIZE: Final = 64 * 1024
"""Maximum size of the file, in bytes."""
MIN_LENGTH: Final = 8
"""Minimum length of a secret, in characters: shorter ones can be guessed over the network."""


def read_secret(file: Path, option: str) -> str:
    """Return the secret in a file, without white space around it; `option` names the file in messages.

    Raises UsageError where the file cannot be read, is not one line of text, or can be read by other users: its mode
    allows that for all, or for a group although the file belongs to the user of this process.
    """
    try:
        with file.open("rb") as opened:
            status = os.fstat(opened.fileno())
            content = opened.read(MAX_SIZE + 1)
    except OSError as error:
        raise UsageError(f"{option} {file} cannot be read: {error.strerror or error}") from error
    if os.name == "posix" and status.st_mode & (0o077 if status.st_uid == os.geteuid() else 0o007):
        raise UsageError(
            f"{option} {file} can be read by other users (mode {status.st_mode & 0o777:04o}): chmod 600 it"
        )
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        text = ""
    if not MIN_LENGTH <= len(text) <= MAX_SIZE or not text.isprintable():
        raise UsageError(f"{option} {file} must hold one line of {MIN_LENGTH} characters at least, and nothing else")
    return text
