"""The folder of the sockets on which workers listen for each other: only this user can open it.

<folder>/<number>.sock    the listener of a worker
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PATH: Final = 90
"""Bytes of the folder's path: that of a socket has at most 104 on some systems, and its name follows."""


@contextmanager
def private_folder() -> Iterator[Path]:
    """Create a folder that is removed at the end of the block; in `/tmp` where the path would be too long."""
    folder = Path(tempfile.mkdtemp(prefix="oda-proxy-"))
    if len(str(folder).encode()) > MAX_PATH:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="oda-proxy-", dir="/tmp"))
    try:
        yield folder
    finally:
        remove(folder)


def remove(folder: Path) -> None:
    """Remove the folder, whatever is left of it."""
    shutil.rmtree(folder, ignore_errors=True)


def socket_of(folder: Path, number: int) -> Path:
    """Return the path of the listener of a worker."""
    return folder / f"{number}.sock"
