"""Files that a manifest lists: each is read only as it says, with its size and digest, and from within one folder."""

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
    """Size and digest of a file, as a manifest gives them."""

    size: int
    sha256: str


def compute_digest(root: Path, relative: str) -> FileDigest:
    """Measure a file for a manifest.

    Raises
    ------
    FixtureError
        It is not there, a link, or no file.
    """
    file = root / relative
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            raise FixtureError(file, "is no file")
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256")
        return FileDigest(file.stat().st_size, digest.hexdigest())
    except OSError as error:
        raise FixtureError(file, f"cannot be read: {error.strerror}") from None


def read_verified(root: Path, relative: str, expected: FileDigest, *, limit: int) -> bytes:
    """Read a file as the manifest lists it.

    Raises
    ------
    FixtureError
        It is missing, changed, larger than `limit` bytes, or lies outside the folder.
    """
    if expected.size > limit:
        raise FixtureError(root / relative, f"is larger than {limit} bytes")
    content, size = _begin(root, relative, expected.size, missing="it is missing, though the manifest lists it")
    if size != expected.size:
        raise FixtureError(root / relative, f"was changed: it has {size} bytes and not {expected.size}")
    if hashlib.sha256(content).hexdigest() != expected.sha256:
        raise FixtureError(root / relative, "was changed: its SHA-256 is not the one in the manifest")
    return content


def read_within(root: Path, relative: str, *, limit: int) -> bytes:
    """Read a file of a folder; a link must lead to one in the same folder.

    Raises
    ------
    FixtureError
        It is missing, no file, larger than `limit` bytes, or lies outside the folder.
    """
    content, _ = _begin(root, relative, limit + 1)
    if len(content) > limit:
        raise FixtureError(root / relative, f"is larger than {limit} bytes")
    return content


def _begin(root: Path, relative: str, most: int, *, missing: str = "") -> tuple[bytes, int]:
    """Read the beginning of a file, `most` bytes, and say how many it has; `missing` is said of one that is not there.

    Raises FixtureError where it is missing, no file, or lies outside the folder.
    """
    file = root / relative
    try:
        real = file.resolve(strict=True)
        if not real.is_relative_to(root.resolve()):
            raise FixtureError(file, "lies outside the folder of the manifest")
        if not stat.S_ISREG(real.stat().st_mode):  # before it is opened: a pipe would wait for a writer
            raise FixtureError(file, "is no file")
        with real.open("rb") as stream:
            return stream.read(most), os.fstat(stream.fileno()).st_size
    except FileNotFoundError as error:
        raise FixtureError(file, f"cannot be read: {missing or error.strerror}") from None
    except OSError as error:
        raise FixtureError(file, f"cannot be read: {error.strerror or error}") from None
    except (RuntimeError, ValueError) as error:  # a loop of links before Python 3.13; a NUL in the folder's name
        raise FixtureError(file, f"cannot be read: {error}") from None
