"""Files that a test cannot read or write, also where root runs it."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


@contextmanager
def unprivileged() -> Iterator[None]:
    """Run as nobody, where root runs the tests."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@contextmanager
def privileged() -> Iterator[None]:
    """Run as root again, where root runs the tests."""
    euid = os.geteuid()
    if euid == os.getuid():
        yield
        return
    os.seteuid(os.getuid())
    try:
        yield
    finally:
        os.seteuid(euid)


@contextmanager
def folder_for_all() -> Iterator[Path]:
    """Make a temporary folder that everybody may enter."""
    with tempfile.TemporaryDirectory(prefix="oda-proxy-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def set_modes(folder: Path, *, of_folders: int, of_files: int) -> None:
    """Set the modes of all folders and files below a folder, and its own."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.chmod(of_folders if path.is_dir() else of_files)
    folder.chmod(of_folders)
