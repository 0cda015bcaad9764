"""Checks of the list of files in a zip file of unknown origin, before any of them is read."""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from oda_proxy.errors import OdaProxyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PLAIN_NAME: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._+-]{1,100}")
INNER_NAME: Final = re.compile(r"(?!\.{1,2}$|[A-Za-z]:)[^\0-\x1f\x7f\\/]{1,255}")
"""Names that do not lead out of a folder, on any system."""
INNER_RULE: Final = "a path may not lead out of its folder, and is written with slashes, without a drive"
_END: Final = b"PK\x05\x06"
_END_SIZE: Final = 22
_LOCATOR: Final = b"PK\x06\x07"
_LOCATOR_SIZE: Final = 20
_END64: Final = b"PK\x06\x06"
_END64_SIZE: Final = 56
_MAX_COMMENT: Final = 65535
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_OTHER_METHODS: Final = {9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ"}
"""Names of methods that are not read (APPNOTE.TXT, section 4.4.5)."""
_ENCRYPTED: Final = 0x1
_UNCHECKED: Final = 64 * 2**20
"""Bytes that may be unpacked from any archive, however small it is."""


class ZipError(OdaProxyError):
    """A zip file is damaged, or is not one that may be read."""

    http_status = 400
    detail = "bad-zip"


@dataclass(frozen=True, slots=True)
class ZipLimits:
    """The largest content of a zip file that is read, and the names that its files may have."""

    files: int = 10_000
    file_bytes: int = 256 * 2**20
    total_bytes: int = 2 * 2**30
    depth: int = 8
    directory_bytes: int = 8 * 2**20
    """Bytes of the list of the files, which is read into memory."""
    ratio: int = 500
    """Bytes that are unpacked, for each byte of the archive."""
    names: re.Pattern[str] = _PLAIN_NAME
    names_rule: str = "names are made of letters, digits, . _ - and +"

    def check_name(self, path: str, what: str = "the zip file") -> None:
        """Raise ZipError for the path of a file that is not allowed."""
        parts = path.removesuffix("/").split("/")
        if len(parts) > self.depth or not all(map(self.names.fullmatch, parts)):
            raise ZipError(f"{what} has a file named {path[:200]!r}: {self.names_rule}")

    def check_sizes(self, *, size: int, total: int, files: int, archive: int, what: str = "the zip file") -> None:
        """Raise ZipError where a file, or all `files` up to it together, are larger than allowed, in bytes.

        `archive` is the size of the archive.
        """
        if size > self.file_bytes or total > self.total_bytes or files > self.files:
            raise ZipError(
                f"{what} is larger than allowed: {self.file_bytes} bytes for a file, {self.total_bytes} "
                f"bytes and {self.files} files in all"
            )
        if total > max(_UNCHECKED, self.ratio * archive):
            raise ZipError(f"{what} would unpack to more than {self.ratio} times its size, as only hostile ones do")


@contextmanager
def zip_errors() -> Iterator[None]:
    """Turn errors of a damaged zip file into a ZipError."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError, ValueError) as error:
        raise ZipError(f"the zip file is damaged: {str(error)[:200] or 'it is incomplete'}") from None


def check_directory(file: BinaryIO, limits: ZipLimits) -> None:
    """Check how long the list of files is, before it is read. Raises ZipError."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END_SIZE - _MAX_COMMENT - _LOCATOR_SIZE))
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_SIZE:
        raise ZipError("this is no zip file, or it is incomplete")
    entries = int.from_bytes(tail[at + 10 : at + 12], "little")
    directory = int.from_bytes(tail[at + 12 : at + 16], "little")
    if (locator := at - _LOCATOR_SIZE) >= 0 and tail[locator : locator + 4] == _LOCATOR:
        file.seek(min(int.from_bytes(tail[locator + 8 : locator + 16], "little"), size))
        end64 = file.read(_END64_SIZE)
        if len(end64) < _END64_SIZE or end64[:4] != _END64:
            raise ZipError("the zip file is damaged: its ZIP64 part is incomplete")
        entries = int.from_bytes(end64[32:40], "little")
        directory = int.from_bytes(end64[40:48], "little")
    file.seek(0)
    if entries > limits.files or directory > limits.directory_bytes:
        raise ZipError(f"the zip file lists more than {limits.files} files")
    if directory > size:
        raise ZipError("the zip file is damaged: its list of files is incomplete")


def checked_members(members: Sequence[zipfile.ZipInfo], limits: ZipLimits, archive: int) -> list[zipfile.ZipInfo]:
    """Return the members that are files. Raises ZipError where one may not be read; `archive` is the size in bytes."""
    files: list[zipfile.ZipInfo] = []
    names: set[str] = set()
    total = packed = 0
    for member in members:
        name = member.filename
        mode = stat.S_IFMT(member.external_attr >> 16)
        limits.check_name(name)
        if name.endswith("/"):
            continue
        if mode not in {0, stat.S_IFREG}:
            raise ZipError(f"{name} in the zip file is no regular file")
        if member.flag_bits & _ENCRYPTED:
            raise ZipError(f"{name} in the zip file is encrypted: pack it again, without a password")
        if member.compress_type not in _METHODS:
            how = _OTHER_METHODS.get(member.compress_type, f"the method {member.compress_type}")
            raise ZipError(f"{name} in the zip file is compressed with {how}: pack it again, with deflate")
        if name.casefold() in names:
            raise ZipError(f"the zip file has two files named {name}")
        total += member.file_size
        packed += member.compress_size
        names.add(name.casefold())
        files.append(member)
        limits.check_sizes(size=member.file_size, total=total, files=len(files), archive=archive)
    if packed > archive:
        raise ZipError("the zip file is damaged: its files overlap")
    return files
