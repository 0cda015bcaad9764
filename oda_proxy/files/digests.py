"""Sizes and digests of files in a manifest, and reading files that match them, from one tree of files."""

from __future__ import annotations

import hashlib
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from oda_proxy.errors import FixtureError

if TYPE_CHECKING:
    from pathlib import Path

    from oda_proxy.files.trees import FileTree

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


def read_verified(tree: FileTree, relative: str, expected: FileDigest, *, limit: int) -> bytes:
    """Read a file and check its size and digest.

    Raises
    ------
    FixtureError
        It is missing, changed, larger than `limit` bytes, or outside the tree.
    """
    if expected.size > limit:
        raise FixtureError(tree.path / relative, f"is larger than {limit} bytes")
    content, size = tree.read_start(relative, expected.size, missing="it is missing, but listed in the manifest")
    if size != expected.size or hashlib.sha256(content).hexdigest() != expected.sha256:
        if size <= limit and _differs_in_line_ends(read_within(tree, relative, limit=limit), expected):
            raise FixtureError(tree.path / relative, _LINE_ENDS)
        if size != expected.size:
            raise FixtureError(tree.path / relative, f"was changed: it has {size} bytes, not {expected.size}")
        raise FixtureError(tree.path / relative, "was changed: its SHA-256 differs from the manifest")
    return content


_LINE_ENDS = (
    "was changed in its line ends only, as git does with core.autocrlf, or an editor or a hook at the end of a file: "
    "restore it, with '* -text' in .gitattributes"
)


def _differs_in_line_ends(content: bytes, expected: FileDigest) -> bool:
    """Return whether a file would be as expected with other line ends, or with more or fewer of them at its end."""
    for text in (content, content.replace(b"\r\n", b"\n"), content.replace(b"\n", b"\r\n")):
        bare = text.rstrip(b"\r\n")
        for candidate in (text, *(bare + end for end in (b"", b"\n", b"\n\n", b"\r\n"))):
            if len(candidate) == expected.size and hashlib.sha256(candidate).hexdigest() == expected.sha256:
                return True
    return False


def read_within(tree: FileTree, relative: str, *, limit: int) -> bytes:
    """Read a file of a tree.

    Raises
    ------
    FixtureError
        It is missing, not a regular file, larger than `limit` bytes, or outside the tree.
    """
    content, _ = tree.read_start(relative, limit + 1)
    if len(content) > limit:
        raise FixtureError(tree.path / relative, f"is larger than {limit} bytes")
    return content
