"""The folder of the sockets on which workers listen for each other: only this user can open it.

<folder>/<number>.sock    the listener of a worker
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from oda_proxy.files.temporary import TemporaryFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PATH: Final = 90
"""Bytes of the folder's path: that of a socket has at most 104 on some systems, and its name follows."""


@contextmanager
def private_folder() -> Iterator[Path]:
    """Create a folder that is removed at the end of the block; in `/tmp` where the path would be too long."""
    temporary = TemporaryFolder("sockets")
    if len(temporary.name.encode()) > MAX_PATH:
        temporary.cleanup()
        temporary = TemporaryFolder("sockets", within="/tmp")  # noqa: S108 - the folder is made there by mkdtemp
    with temporary as folder:
        yield Path(folder)


def remove(folder: Path) -> None:
    """Remove the folder, whatever is left of it."""
    shutil.rmtree(folder, ignore_errors=True)


def socket_of(folder: Path, number: int) -> Path:
    """Return the path of the listener of a worker."""
    return folder / f"{number}.sock"
