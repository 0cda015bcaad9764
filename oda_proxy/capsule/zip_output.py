"""Writing a capsule, or a folder of fixtures, as a zip file: files are collected in a folder beside it, then packed."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from oda_proxy.capsule import layout
from oda_proxy.capsule.capsule import is_capsule
from oda_proxy.capsule.errors import CapsuleError, NotACapsuleError
from oda_proxy.errors import FixtureError, UsageError
from oda_proxy.files.archives import open_tree
from oda_proxy.files.ownership import make_folder
from oda_proxy.files.trees import FolderTree
from oda_proxy.files.zip_writing import write_zip_file
from oda_proxy.fixture.json_files import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterator

_TAR_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz")


def is_zip_output(target: Path) -> bool:
    """Return whether a path names a zip file to write, and no folder. Raises UsageError for a tar file."""
    if target.is_dir():
        return False
    if target.name.casefold().endswith(_TAR_SUFFIXES):
        raise UsageError(f"{target} is not written: a capsule is written as a folder or as a .zip file")
    return target.suffix.casefold() == ".zip"


@contextmanager
def folder_for(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield the folder to write: `target`, or for a zip file a temporary one, which is packed at the end.

    The zip file appears whole or not at all. Where the block fails after a result was written, what there is is packed
    as well; where the process is killed, the folder remains beside the zip file, with its name and a suffix.
    Raises NotACapsuleError where there is a zip file and not `replace`, or one that is no capsule; CapsuleError where
    the zip file cannot be written.
    """
    if not is_zip_output(target):
        yield target
        return
    _check_free(target, replace=replace)
    try:
        make_folder(target.parent)
        folder = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
    except OSError as error:
        raise CapsuleError(target, f"cannot be written: {error.strerror or error}") from None
    try:
        yield folder
    except BaseException:
        if any((folder / own).exists() for own in layout.FOLDERS):
            _pack(folder, target)
        else:
            shutil.rmtree(folder)
        raise
    _pack(folder, target)


def _check_free(target: Path, *, replace: bool) -> None:
    if not target.exists():
        return
    if not replace:
        raise NotACapsuleError(f"{target} exists; name another file, or replace it (--replace)")
    try:
        with open_tree(target) as tree:
            if is_capsule(tree):
                return
    except FixtureError as error:
        raise NotACapsuleError(f"{target} is not replaced, it holds no capsule: {error}") from None
    raise NotACapsuleError(f"{target} is not replaced, it holds no capsule")


def _pack(folder: Path, target: Path) -> None:
    """Write the zip file of a folder, and remove the folder; where that fails, the folder stays."""
    if not any((folder / name).is_file() for name in (layout.MANIFEST, MANIFEST)):
        shutil.rmtree(folder)
        return
    try:
        write_zip_file(FolderTree(folder), target)
    except OSError as error:
        reason = error.strerror or error
        raise CapsuleError(target, f"cannot be written: {reason}; what it would hold is in {folder}") from None
    shutil.rmtree(folder)
