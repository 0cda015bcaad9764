"""Sizes and digests of files in a manifest, and reading files that match them, from within one folder."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from oda_proxy.errors import FixtureError

if TYPE_CHECKING:
    from pathlib import Path

SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FileDigest:
    """The size and digest of a file in a manifest."""

    size: int
    sha256: str


def compute_digest(root: Path, relative: str) -> FileDigest:
    """Return the size and digest of a file, for a manifest.

    Raises
    ------
    FixtureError
        It is missing, a link, or not a regular file.
    """
    file = root / relative
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            raise FixtureError(file, "is not a regular file")
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256")
        return FileDigest(file.stat().st_size, digest.hexdigest())
    except OSError as error:
        raise FixtureError(file, f"cannot be read: {error.strerror}") from None


def read_verified(root: Path, relative: str, expected: FileDigest, *, limit: int) -> bytes:
    """Read a file and check its size and digest.

    Raises
    ------
    FixtureError
        It is missing, changed, larger than `limit` bytes, or outside the folder.
    """
    if expected.size > limit:
        raise FixtureError(root / relative, f"is larger than {limit} bytes")
    content, size = _read_start(root, relative, expected.size, missing="it is missing, but listed in the manifest")
    if size != expected.size or hashlib.sha256(content).hexdigest() != expected.sha256:
        if size <= limit and _differs_in_line_ends(read_within(root, relative, limit=limit), expected):
            raise FixtureError(root / relative, _LINE_ENDS)
        if size != expected.size:
            raise FixtureError(root / relative, f"was changed: it has {size} bytes, not {expected.size}")
        raise FixtureError(root / relative, "was changed: its SHA-256 differs from the manifest")
    return content


_LINE_ENDS = (
    "was changed in its line ends only, as git does with core.autocrlf, or an editor or a hook at the end of a file: "
    "restore it, with '* -text' in .gitattributes"
)


def _differs_in_line_ends(content: bytes, expected: FileDigest) -> bool:
    """Tell whether a file would be as expected with other line ends, or with more or fewer of them at its end."""
    for text in (content, content.replace(b"\r\n", b"\n"), content.replace(b"\n", b"\r\n")):
        bare = text.rstrip(b"\r\n")
        for candidate in (text, *(bare + end for end in (b"", b"\n", b"\n\n", b"\r\n"))):
            if len(candidate) == expected.size and hashlib.sha256(candidate).hexdigest() == expected.sha256:
                return True
    return False


def read_within(root: Path, relative: str, *, limit: int) -> bytes:
    """Read a file of a folder; a link must lead to another file of it.

    Raises
    ------
    FixtureError
        It is missing, not a regular file, larger than `limit` bytes, or outside the folder.
    """
    content, _ = _read_start(root, relative, limit + 1)
    if len(content) > limit:
        raise FixtureError(root / relative, f"is larger than {limit} bytes")
    return content


def _read_start(root: Path, relative: str, limit: int, *, missing: str = "") -> tuple[bytes, int]:
    """Return the first `limit` bytes of a file, and its size; `missing` is the error text for a missing one.

    Raises FixtureError if it is missing, not a regular file, or outside the folder.
    """
    file = root / relative
    try:
        real = file.resolve(strict=True)
        if not real.is_relative_to(root.resolve()):
            raise FixtureError(file, "is outside the folder of the manifest")
        if not stat.S_ISREG(real.stat().st_mode):  # before it is opened: a pipe would wait for a writer
            raise FixtureError(file, "is not a regular file")
        with real.open("rb") as stream:
            return stream.read(limit), os.fstat(stream.fileno()).st_size
    except FileNotFoundError as error:
        raise FixtureError(file, f"cannot be read: {missing or error.strerror}") from None
    except OSError as error:
        raise FixtureError(file, f"cannot be read: {error.strerror or error}") from None
    except (RuntimeError, ValueError) as error:  # a loop of links before Python 3.13; a NUL in the folder's name
        raise FixtureError(file, f"cannot be read: {error}") from None
