"""Writing of zip files whose bytes depend on nothing but the files in them."""

from __future__ import annotations

import os
import secrets
import stat
import zipfile
from typing import TYPE_CHECKING, BinaryIO, Final

from oda_proxy.files.ownership import make_folder, match_owner

if TYPE_CHECKING:
    from pathlib import Path

    from oda_proxy.files.trees import FileTree

_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)
"""The time of all files: the first that the format can hold."""
_UNIX: Final = 3
_MODE: Final = stat.S_IFREG | 0o644


def write_zip(tree: FileTree, file: BinaryIO, *, level: int = 6) -> None:
    """Write the files of a tree in the order of their paths; the same files give the same bytes. Blocks.

    `level` is the level of compression, from 1 to 9. Links are left out. Raises FixtureError where a file cannot be
    read, OSError where the zip file cannot be written.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for path in tree.files_below(""):
            if tree.is_link(path):
                continue
            member = zipfile.ZipInfo(path, _EARLIEST)
            member.create_system, member.external_attr = _UNIX, _MODE << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            _, size = tree.read_start(path, 0)
            content, _ = tree.read_start(path, size)
            archive.writestr(member, content, compresslevel=level)


def write_zip_file(tree: FileTree, target: Path) -> None:
    """Write a zip file of a tree, whole or not at all, in place of one of this name. Blocks. Raises as `write_zip`."""
    make_folder(target.parent)
    temporary = target.with_name(f".{target.name[:40]}-{secrets.token_hex(4)}")
    try:
        with temporary.open("x+b") as file:
            write_zip(tree, file)
            file.flush()
            os.fsync(file.fileno())
        match_owner(temporary, target.parent)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
