"""Opening of a folder, a zip file or a compressed tar file as a tree of files."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zipfile
import zlib
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from oda_proxy.errors import FixtureError
from oda_proxy.files.temporary import TemporaryFolder
from oda_proxy.files.trees import FolderTree, ZipTree
from oda_proxy.files.zip_extraction import SPARE
from oda_proxy.files.zip_members import (
    INNER_NAME,
    INNER_RULE,
    ZipError,
    ZipLimits,
    check_directory,
    checked_members,
    zip_errors,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from oda_proxy.files.trees import FileTree

LIMITS: Final = ZipLimits(
    files=100_000,
    file_bytes=2**30,
    total_bytes=16 * 2**30,
    depth=32,
    directory_bytes=32 * 2**20,
    names=INNER_NAME,
    names_rule=INNER_RULE,
)
"""Limits of an archive, of which only files in a manifest are read."""
MANIFESTS: Final = ("capsule.json", "manifest.json")
"""Files at the top of a capsule and of a folder of fixtures."""
_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = b"PK"
_PIECE: Final = 256 * 1024
_MAX_HEADER: Final = 2**20
"""Bytes of a header of a tar file, which is read at once."""


def is_archive(path: Path) -> bool:
    """Return whether a path is a file that begins as a zip file or a compressed file does. Raises OSError."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_ZIP)) in {_GZIP, _ZIP}


def open_tree(path: Path, *, limits: ZipLimits = LIMITS) -> FileTree:
    """Open a folder, or the content of a zip file or of a compressed tar file, at its top or in its only folder.

    A zip file is read where it is. A tar file has no list of its files: it is unpacked once, within the same limits,
    into a temporary folder, which is removed when the tree is closed. Any other path is taken for a folder. Blocks.
    Raises FixtureError where an archive is damaged, or has what may not be read.
    """
    try:
        if not path.is_file():
            return FolderTree(path)
        with path.open("rb") as file:
            begin = file.read(2)
            if begin == _GZIP:
                file.seek(0)
                return _unpacked(path, file, limits)
            if begin != _ZIP and path.suffix != ".zip":
                return FolderTree(path)
            check_directory(file, limits)
        return _zip_tree(path, limits)
    except ZipError as error:
        raise FixtureError(path, str(error)) from None
    except OSError as error:
        raise FixtureError(path, f"cannot be read: {error.strerror or error}") from None
    except ValueError:  # a NUL in its name
        return FolderTree(path)


def _zip_tree(path: Path, limits: ZipLimits) -> ZipTree:
    with ExitStack() as stack:
        with zip_errors():
            archive = stack.enter_context(closing(zipfile.ZipFile(path)))
            members = checked_members(archive.infolist(), limits, path.stat().st_size)
        top = _top([member.filename for member in members])
        stack.pop_all()
    inside = {member.filename.removeprefix(top): member for member in members if member.filename.startswith(top)}
    return ZipTree(path, archive, inside)


def _top(names: Collection[str]) -> str:
    """Return the beginning of the paths of a capsule's files: "", or its folder with a slash. Raises ZipError."""
    if any(name in MANIFESTS for name in names):
        return ""
    folders = sorted({name.partition("/")[0] for name in names if name.partition("/")[2] in MANIFESTS})
    if len(folders) > 1:
        raise ZipError(f"it has several folders with a capsule or fixtures, such as {', '.join(folders[:3])}: take one")
    if not folders:
        raise ZipError(f"it has no {MANIFESTS[0]} at its top, nor in one folder: it holds no capsule")
    return f"{folders[0]}/"


class _Bounded:
    """An unpacked stream whose headers and whole are bounded, for `tarfile`."""

    def __init__(self, stream: BinaryIO, limits: ZipLimits, archive: int) -> None:
        self._stream = stream
        self._limits = limits
        self._archive = archive

    def read(self, size: int = -1) -> bytes:
        """Read some bytes. Raises ZipError."""
        if not 0 <= size <= _MAX_HEADER:
            raise ZipError("the tar file is damaged: a header is longer than any is")
        content = self._stream.read(size)
        self._check()
        return content

    def seek(self, position: int) -> int:
        """Go to a position. Raises ZipError."""
        reached = self._stream.tell()
        while reached < position and self._stream.read(min(_PIECE, position - reached)):
            reached = self._stream.tell()
            self._check()
        return self._stream.seek(position)

    def tell(self) -> int:
        """Return the position."""
        return self._stream.tell()

    def _check(self) -> None:
        # Headers and padding have 1 KiB for each file.
        total = max(self._stream.tell() - 2 * _PIECE - 1024 * self._limits.files, 0)
        self._limits.check_sizes(size=0, total=total, files=0, archive=self._archive, what="the tar file")


def _unpacked(path: Path, file: BinaryIO, limits: ZipLimits) -> FolderTree:
    """Unpack a compressed tar file into a temporary folder. Raises ZipError, FixtureError and OSError."""
    temporary = TemporaryFolder("archive")
    with ExitStack() as stack:
        stack.callback(temporary.cleanup)
        folder = Path(temporary.name, "content")
        folder.mkdir()
        try:
            with gzip.GzipFile(fileobj=file) as stream:
                bounded = _Bounded(cast("BinaryIO", stream), limits, path.stat().st_size)
                with tarfile.open(fileobj=cast("BinaryIO", bounded), mode="r:") as archive:
                    names = _unpack(archive, folder, limits, path.stat().st_size)
        except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, OverflowError) as error:
            raise ZipError(f"the tar file is damaged: {str(error)[:200] or 'it is incomplete'}") from None
        top = _top(names)
        stack.pop_all()
    return FolderTree(folder / top, shown=path, temporary=temporary)


def _unpack(archive: tarfile.TarFile, folder: Path, limits: ZipLimits, size: int) -> Collection[str]:
    """Unpack the files of an archive of this size in bytes, and return their paths. Raises ZipError and OSError."""
    what, names, total = "the tar file", dict[str, str](), 0
    for member in archive:
        name = member.name.removeprefix("./") or "."
        if member.isdir() and name == ".":
            continue
        limits.check_name(name, what)
        if member.isdir():
            continue
        if member.type not in {tarfile.REGTYPE, tarfile.AREGTYPE} or member.sparse is not None:
            raise ZipError(f"{name[:200]} in the tar file is no regular file")
        if name.casefold() in names:
            raise ZipError(f"the tar file has two files named {name[:200]}")
        names[name.casefold()] = name
        total += member.size
        limits.check_sizes(size=member.size, total=total, files=len(names), archive=size, what=what)
        if shutil.disk_usage(folder).free < member.size + SPARE:
            raise ZipError(f"there is not enough space in {folder.parent} to unpack the tar file")
        _write(archive, member, folder / name)
    return names.values()


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = archive.extractfile(member)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as written:
        while content and (piece := content.read(_PIECE)):
            written.write(piece)
    if target.stat().st_size != member.size:
        raise ZipError(f"the tar file is damaged: {member.name[:200]} is incomplete")
