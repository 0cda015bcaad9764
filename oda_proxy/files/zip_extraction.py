"""Extraction of a zip file of unknown origin into a folder, within limits."""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from oda_proxy.errors import OdaProxyError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_NAME: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._+-]{1,100}")
_END: Final = b"PK\x05\x06"
_END_SIZE: Final = 22
_MAX_COMMENT: Final = 65535
_MAX_DIRECTORY: Final = 8 * 2**20
"""Bytes of the list of the files in a zip file, which is read into memory."""
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ENCRYPTED: Final = 0x1
_PIECE: Final = 256 * 1024
_SPARE: Final = 64 * 2**20
"""Bytes that stay free on the disk."""


class ZipError(OdaProxyError):
    """A zip file is damaged, or is not one that may be extracted."""

    http_status = 400
    detail = "bad-zip"


class NoSpaceError(OdaProxyError):
    """There is no space to extract a zip file (RFC 4918, section 11.5)."""

    http_status = 507
    detail = "no-space"


@dataclass(frozen=True, slots=True)
class ZipLimits:
    """The largest content of a zip file that is extracted."""

    files: int = 10_000
    file_bytes: int = 256 * 2**20
    total_bytes: int = 2 * 2**30
    depth: int = 8


def extract(file: BinaryIO, folder: Path, limits: ZipLimits) -> None:
    """Extract a zip file into an empty folder. Blocks.

    Folders, regular files with plain names, and files that are stored or deflated are extracted; what a file claims to
    be is not trusted. Raises ZipError, and NoSpaceError.
    """
    _check_directory(file, limits)
    try:
        with zipfile.ZipFile(file) as archive:
            members = _checked(archive.infolist(), limits)
            if shutil.disk_usage(folder).free < sum(member.file_size for member in members) + _SPARE:
                raise NoSpaceError(f"there is not enough space in {folder.parent} to extract the zip file")
            for member in members:
                _extract(archive, member, folder / member.filename)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError, ValueError) as error:
        raise ZipError(f"the zip file is damaged: {str(error)[:200]}") from None


def _check_directory(file: BinaryIO, limits: ZipLimits) -> None:
    """Check how long the list of files is, before it is read. Raises ZipError."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END_SIZE - _MAX_COMMENT))
    tail = file.read()
    file.seek(0)
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_SIZE:
        raise ZipError("this is no zip file, or it is incomplete")
    entries = int.from_bytes(tail[at + 10 : at + 12], "little")
    directory = int.from_bytes(tail[at + 12 : at + 16], "little")
    if entries > limits.files or directory > _MAX_DIRECTORY:  # the values of ZIP64 are larger
        raise ZipError(f"the zip file lists more than {limits.files} files")


def _checked(members: Sequence[zipfile.ZipInfo], limits: ZipLimits) -> Sequence[zipfile.ZipInfo]:
    """Return the members that are files. Raises ZipError where one may not be extracted."""
    files: list[zipfile.ZipInfo] = []
    names: set[str] = set()
    total = 0
    for member in members:
        name = member.filename
        parts = name.removesuffix("/").split("/")
        mode = stat.S_IFMT(member.external_attr >> 16)
        if len(parts) > limits.depth or not all(_NAME.fullmatch(part) for part in parts):
            raise ZipError(
                f"the zip file has a file named {name[:200]!r}: names are made of letters, digits, . _ - and +"
            )
        if name.endswith("/"):
            continue
        if mode not in {0, stat.S_IFREG} or member.flag_bits & _ENCRYPTED or member.compress_type not in _METHODS:
            raise ZipError(f"{name} in the zip file is no regular file, is encrypted, or compressed in an unusual way")
        if name.casefold() in names:
            raise ZipError(f"the zip file has two files named {name}")
        total += member.file_size
        if member.file_size > limits.file_bytes or total > limits.total_bytes or len(files) >= limits.files:
            raise ZipError(
                f"the zip file is larger than allowed: {limits.file_bytes} bytes for a file, {limits.total_bytes} "
                f"bytes and {limits.files} files in all"
            )
        names.add(name.casefold())
        files.append(member)
    return files


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Extract a file, at most as many bytes as it claims to have."""
    left = member.file_size
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, target.open("xb") as written:
            while piece := source.read(min(_PIECE, left + 1)):
                left -= len(piece)
                if left < 0:
                    raise ZipError(f"{member.filename} in the zip file is larger than it claims to be")
                written.write(piece)
    except OSError as error:
        raise NoSpaceError(f"{member.filename} cannot be extracted: {error.strerror or error}") from error
