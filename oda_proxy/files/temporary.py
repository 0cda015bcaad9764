"""Temporary folders that end with their process, or, where it was killed, with the next process that makes one."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

GRACE: Final = 3600.0
"""Seconds for which a folder stays that no process has locked: another one may be about to lock it."""
READ_FOR: Final = 7 * 86400.0
"""Seconds for which files stay that other programs read (`readable_folder`)."""
_PREFIX: Final = "oda-proxy"
_OWN: Final = re.compile(rf"{_PREFIX}-for-[a-z]+-[a-z0-9_]+")
_READ: Final = re.compile(rf"{_PREFIX}-open-[a-z0-9_]+")


class TemporaryFolder(tempfile.TemporaryDirectory[str]):
    """A temporary folder of this process, which is locked until the process ends.

    It is removed with the block, with `cleanup`, and at the end of the process. Those of killed processes are removed
    when a later process makes its first one.
    """

    def __init__(self, purpose: str, *, within: str | None = None) -> None:
        """Make a folder in another one, the system's temporary one by default; `purpose` is a word for its name.

        Raises OSError.
        """
        remove_abandoned(within or tempfile.gettempdir())
        super().__init__(prefix=f"{_PREFIX}-for-{purpose}-", dir=within)
        descriptor = os.open(self.name, os.O_RDONLY | os.O_DIRECTORY)
        weakref.finalize(self, os.close, descriptor)
        with suppress(OSError):  # without locks there, nobody else can lock it either, and it stays
            fcntl.flock(descriptor, fcntl.LOCK_SH)


def readable_folder() -> Path:
    """Make a folder with files for other programs, and remove those of a week ago. Raises OSError."""
    within = tempfile.gettempdir()
    for folder in _folders(within, _READ, older_than=READ_FOR):
        shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}-open-", dir=within))


@cache
def remove_abandoned(within: str) -> None:
    """Remove the temporary folders of processes that were killed, once in this process."""
    for folder in _folders(within, _OWN, older_than=GRACE):
        with suppress(OSError):  # it is locked, or was removed meanwhile
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _folders(within: str, names: re.Pattern[str], *, older_than: float) -> Iterator[str]:
    """Return the folders of this user with such names, last changed at least some seconds ago."""
    with suppress(OSError), os.scandir(within) as entries:
        for entry in entries:
            if names.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                if status.st_uid == os.geteuid() and status.st_mtime < time.time() - older_than:
                    yield entry.path
