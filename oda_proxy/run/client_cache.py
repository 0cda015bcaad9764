"""An empty cache for the client in this process: for what it finds in its own cache, it sends no request."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from oda_proxy.files.temporary import TemporaryFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VARIABLE: Final = "ODA_CACHE"
"""The variable with the folder of the client's cache. `oda_api` reads it each time that it looks for a response."""

_lock: Final = threading.Lock()
_replaced: Final[dict[str, str | None]] = {}
"""The value that each active block replaced, by its folder."""


@contextmanager
def empty_client_cache() -> Iterator[Path | None]:
    """Set ODA_CACHE of this process to an empty folder until the block ends, and return the cache it replaces.

    None is returned if that cache has no files, or is that of another block. Blocks may overlap, also in several
    threads: the one that began last counts. Another value that is set within the block stays.
    """
    replaced = folder_of(os.environ)
    with TemporaryFolder("cache") as folder:
        with _lock:
            _replaced[folder] = os.environ.get(VARIABLE)
            os.environ[VARIABLE] = folder
        try:
            yield replaced if str(replaced) not in _replaced and has_files(replaced) else None
        finally:
            with _lock:
                _restore(folder)


def folder_of(environ: Mapping[str, str]) -> Path:
    """Return the folder of the client's cache in an environment."""
    return Path(environ.get(VARIABLE) or Path(environ.get("HOME") or "/tmp") / ".cache" / "oda-api")  # noqa: S108 - as the client does


def has_files(folder: Path) -> bool:
    """Return whether there is a file in a folder or below it."""
    return any(files for _, _, files in os.walk(folder))


def _restore(folder: str) -> None:
    """Put back what the block with this folder replaced, also where a later block replaced its folder."""
    before = _replaced.pop(folder)
    for later, value in _replaced.items():
        if value == folder:
            _replaced[later] = before
    if os.environ.get(VARIABLE) != folder:
        return
    if before is None:
        del os.environ[VARIABLE]
    else:
        os.environ[VARIABLE] = before
