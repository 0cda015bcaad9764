"""The number of open files: a connection is one, and systems allow a program few unless it asks for more."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Final

WANTED: Final = 65536
"""Open files of a server, as in its unit of systemd."""


def allow_open_files() -> None:
    """Raise the limit of this process for open files to `WANTED`, or as far as the system allows; never lower it."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
