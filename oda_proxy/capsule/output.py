"""Where a capsule or fixtures are written: in a new folder, or beside what they replace at the end."""

from __future__ import annotations

import logging
import secrets
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from oda_proxy.capsule import layout, manifest, readme
from oda_proxy.capsule.capsule import is_capsule, unlisted_files
from oda_proxy.capsule.errors import CapsuleError, NotACapsuleError, capsule_errors
from oda_proxy.capsule.layout import DESCRIPTIONS, MANIFEST, kind_of
from oda_proxy.errors import CodecError, FixtureError, UsageError
from oda_proxy.files.archives import open_tree
from oda_proxy.files.locking import lock
from oda_proxy.files.ownership import make_folder
from oda_proxy.files.trees import FolderTree
from oda_proxy.files.zip_writing import write_zip_file
from oda_proxy.fixture import json_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oda_proxy.capsule.manifest import Manifest

_TAR_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz")
_REPLACED: Final = (MANIFEST, layout.CRATE, *layout.FOLDERS)
"""What a capsule consists of; the manifest is the first to go and the last to come, so that no half of one is read."""

_log = logging.getLogger(__name__)


def is_zip_output(target: Path) -> bool:
    """Return whether a path names a zip file to write, and no folder. Raises UsageError for a tar file."""
    if target.is_dir():
        return False
    if target.name.casefold().endswith(_TAR_SUFFIXES):
        raise UsageError(f"{target} is not written: a capsule is written as a folder or as a .zip file")
    return target.suffix.casefold() == ".zip"


@contextmanager
def fixtures_output(target: Path) -> Iterator[Path]:
    """Yield the folder to write fixtures to: `target`, which may have some, or one that becomes a new zip file."""
    if not is_zip_output(target):
        yield target
        return
    _check_zip(target, replace=False)
    with _beside(target, replace=False, keeps_results=False) as folder:
        yield folder


@contextmanager
def run_output(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield the folder to record a run in: `target` where it is new, so that a run that is killed leaves a capsule.

    In place of a capsule, and for a zip file, it is a folder beside it. Where the block fails after a result was
    written, a new zip file has what there is; in place of a capsule the folder stays, and the capsule, too. Raises as
    `capsule_output`.
    """
    is_zip = is_zip_output(target)
    if is_zip:
        _check_zip(target, replace=replace)
    elif not _is_to_replace(target, replace=replace):
        yield target
        return
    with _beside(target, replace=replace or not is_zip, keeps_results=True) as folder:
        yield folder


@contextmanager
def capsule_output(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a folder that becomes the capsule or the zip file `target` at the end; where the block fails, none.

    Raises NotACapsuleError where there is a capsule and not `replace`, or something else; CapsuleError where it cannot
    be written.
    """
    if is_zip_output(target):
        _check_zip(target, replace=replace)
    elif _is_to_replace(target, replace=replace):
        replace = True
    with _beside(target, replace=replace, keeps_results=False) as folder:
        yield folder


@contextmanager
def _beside(target: Path, *, replace: bool, keeps_results: bool) -> Iterator[Path]:
    """Yield a new folder on the disk of `target`, and put it there at the end."""
    is_zip, is_new = is_zip_output(target), not target.exists()
    # In a folder that exists, which may be a mount point or the current folder: those cannot be renamed.
    parent = target.parent if is_zip or is_new else target
    folder = parent / f"{target.name or 'capsule'}-{secrets.token_hex(4)}"
    try:
        make_folder(parent)
        folder.mkdir()
    except OSError as error:
        raise CapsuleError(target, f"cannot be written: {error.strerror or error}") from None
    try:
        yield folder
    except BaseException:
        has_results = any((folder / own).exists() for own in layout.FOLDERS)
        if not (keeps_results and has_results):
            shutil.rmtree(folder)
        elif is_new:
            _pack(folder, target, replace=replace)
        else:
            _log.warning("%s stays as it was; what was recorded until then is in %s", target, folder)
        raise
    try:
        place = _pack if is_zip else _put_in_place
        place(folder, target, replace=replace)
    except CapsuleError as error:
        if keeps_results:
            reason = str(error).removeprefix(f"{error.file}: ")
            raise CapsuleError(error.file, f"{reason}; what it would hold is in {folder}") from None
        shutil.rmtree(folder)
        raise
    except BaseException:
        if is_zip and not keeps_results:
            shutil.rmtree(folder)
        raise


def _check_zip(target: Path, *, replace: bool) -> None:
    """Raise NotACapsuleError where a zip file may not be written in place of what there is."""
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


def _is_to_replace(folder: Path, *, replace: bool) -> bool:
    """Return whether a folder has a capsule that may be replaced: any with `replace`, and one without results.

    Raises NotACapsuleError where it has another one, or anything else.
    """
    if folder.exists() and not folder.is_dir():
        raise NotACapsuleError(f"{folder} is not a folder; name another one for the capsule")
    with capsule_errors(folder):
        if not folder.exists() or not any(folder.iterdir()):
            return False
    if not (folder / MANIFEST).exists():
        raise NotACapsuleError(f"{folder} is not empty, and holds no capsule; name another folder")
    try:
        is_empty = _has_no_results(folder, manifest.read(FolderTree(folder)))
    except (CodecError, FixtureError) as error:
        raise NotACapsuleError(f"{folder} is not replaced, it holds no capsule of a known format: {error}") from None
    if not (replace or is_empty):
        raise NotACapsuleError(
            f"{folder} holds a capsule; name another folder, or replace it (--replace, or replace=True)"
        )
    return True


def _has_no_results(folder: Path, listed: Manifest) -> bool:
    """Return whether the run of a capsule ended with nothing but descriptions."""
    if listed.ended is None:  # the run may still go on
        return False
    return all(kind_of(path) == DESCRIPTIONS for path in listed.files) and not any(
        unlisted_files(FolderTree(folder), listed)
    )


def _pack(folder: Path, target: Path, *, replace: bool) -> None:
    """Write the zip file of a folder, and remove the folder; where that fails, the folder stays."""
    if any((folder / name).is_file() for name in (MANIFEST, json_files.MANIFEST)):
        with capsule_errors(target), lock(target.absolute()):
            if target.exists() and not replace:
                raise CapsuleError(target, "exists meanwhile")
            write_zip_file(FolderTree(folder), target)
    shutil.rmtree(folder)


def _put_in_place(new: Path, target: Path, *, replace: bool) -> None:
    """Move a capsule to its place; other files there stay."""
    with capsule_errors(target), lock(target.absolute()):
        if not target.exists():
            new.rename(target)
            return
        if not target.samefile(new.parent):
            raise CapsuleError(target, "exists meanwhile")
        if (target / MANIFEST).exists() and not replace:
            raise CapsuleError(target, "holds a capsule meanwhile")
        _exchange(new, target)


def _exchange(new: Path, target: Path) -> None:
    """Move the parts of a capsule from a folder within `target` to it, and those that are there away.

    Where one cannot be moved, all are moved back. Raises OSError.
    """
    old = new.with_name(f"{new.name}-replaced")
    old.mkdir()
    moves = [(target / name, old / name) for name in _REPLACED]
    if readme.is_generated(target / layout.README):
        moves.append((target / layout.README, old / layout.README))
    moves += [(new / name, target / name) for name in (*layout.GENERATED, *reversed(_REPLACED))]
    done: list[tuple[Path, Path]] = []
    try:
        for source, place in moves:
            if source.exists() and not place.exists():  # a README of the author stays
                source.rename(place)
                done.append((source, place))
    except OSError:
        for source, place in reversed(done):
            place.rename(source)
        old.rmdir()
        raise
    shutil.rmtree(old)
    shutil.rmtree(new)
