"""Extraction of a zip file of unknown origin into a folder, within limits."""

from __future__ import annotations

import shutil
import zipfile
from typing import TYPE_CHECKING, BinaryIO, Final

from oda_proxy.errors import OdaProxyError
from oda_proxy.files.zip_members import ZipError, ZipLimits, check_directory, checked_members, zip_errors

if TYPE_CHECKING:
    from pathlib import Path

_PIECE: Final = 256 * 1024
SPARE: Final = 64 * 2**20
"""Bytes that stay free on the disk."""


class NoSpaceError(OdaProxyError):
    """There is no space to extract a zip file (RFC 4918, section 11.5)."""

    http_status = 507
    detail = "no-space"


def extract(file: BinaryIO, folder: Path, limits: ZipLimits) -> None:
    """Extract a zip file into an empty folder. Blocks.

    Folders, regular files with plain names, and files that are stored or deflated are extracted; what a file claims to
    be is not trusted. Raises ZipError, and NoSpaceError.
    """
    check_directory(file, limits)
    size = file.seek(0, 2)
    with zip_errors(), zipfile.ZipFile(file) as archive:
        members = checked_members(archive.infolist(), limits, size)
        if shutil.disk_usage(folder).free < sum(member.file_size for member in members) + SPARE:
            raise NoSpaceError(f"there is not enough space in {folder.parent} to extract the zip file")
        for member in members:
            _extract(archive, member, folder / member.filename)


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
