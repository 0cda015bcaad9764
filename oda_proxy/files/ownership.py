"""Owners of files that root writes into the folder of somebody else."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def match_owner(path: Path, reference: Path) -> None:
    """Give a file or folder the owner and group of `reference`, if this process is root.

    Otherwise a command that root runs would leave files that the user of the folder cannot read.
    """
    if os.geteuid() != 0:
        return
    with suppress(OSError):  # some file systems have no owners, or do not let root change them
        owner, current = reference.stat(), path.lstat()
        if (owner.st_uid, owner.st_gid) != (current.st_uid, current.st_gid):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def make_folder(path: Path, *, mode: int = 0o777) -> None:
    """Create a folder and its parents, each with the owner of the folder that it is in; raises OSError."""
    wanted, missing = path, []
    while not path.is_dir():
        if path.exists():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        missing.append(path)
        if path.parent == path:
            break
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(mode=mode if folder == wanted else 0o777, exist_ok=True)
        match_owner(folder, folder.parent)
