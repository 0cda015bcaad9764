"""Stored pictures, in a folder beside the recordings: bounded, and removed with their recording."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from oda_proxy.files import atomic
from oda_proxy.files.ownership import make_folder
from oda_proxy.store.heads import pictures_of

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)

VERSION: Final = 3
"""Version of the drawings: pictures of another version are not used, and are evicted in time."""
MAX_SIZE: Final = 256 * 1024**2
"""Bytes of all pictures."""
FONTS: Final = "fonts"
"""Folder among those of pictures with what matplotlib knows of fonts: finding them takes a second."""
_AFTER_EVICTION: Final = 0.8


class PictureStore:
    """Files by the name of the head of a recording and a name of their own. Blocks: call it in a thread.

    A folder that cannot be written to stores nothing, which is logged once.
    """

    def __init__(self, folder: Path, *, max_size: int = MAX_SIZE) -> None:
        self._folder = folder
        self._max_size = max_size
        self._size: int | None = None
        self._is_unwritable = False
        self._lock = threading.Lock()

    def get(self, head_name: str, name: str) -> bytes | None:
        """Return a file, or None."""
        path = self._path(head_name, name)
        try:
            content = path.read_bytes()
            os.utime(path)  # the file used last is evicted last
        except OSError:
            return None
        return content

    def put(self, head_name: str, name: str, content: bytes) -> None:
        """Store a file, and evict those used least recently beyond the limit."""
        path = self._path(head_name, name)
        try:
            with self._lock:
                make_folder(self._folder, mode=0o700)  # some recordings are private
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                atomic.write(path, content)
                self._size = self._counted() if self._size is None else self._size + len(content)
                if self._size > self._max_size:
                    self._evict()
        except OSError as error:
            if not self._is_unwritable:
                _log.warning("pictures are drawn again each time: %s cannot be written to (%s)", path, error.strerror)
            self._is_unwritable = True

    def remove(self, head_name: str) -> None:
        """Remove all files of a recording."""
        shutil.rmtree(pictures_of(self._folder, head_name), ignore_errors=True)

    def _path(self, head_name: str, name: str) -> Path:
        digest = hashlib.sha256(f"{VERSION} {name}".encode()).hexdigest()[:32]
        return pictures_of(self._folder, head_name) / digest

    def _files(self) -> list[tuple[float, int, Path]]:
        files = []
        for path in self._folder.glob("*/*/*"):
            with suppress(OSError):
                stat = path.stat()
                files.append((stat.st_mtime, stat.st_size, path))
        return files

    def _counted(self) -> int:
        return sum(size for _, size, _ in self._files())

    def _evict(self) -> None:
        files = sorted(self._files())
        size = sum(size for _, size, _ in files)
        for _, freed, path in files:
            if size <= self._max_size * _AFTER_EVICTION:
                break
            with suppress(OSError):
                path.unlink()
                path.parent.rmdir()  # only if it is empty
            size -= freed
        self._size = size
