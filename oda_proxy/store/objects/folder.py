"""Heads of recordings in a folder that several hosts share.

A head is written under a temporary name, flushed and renamed, so that NFS is enough: nothing is locked.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from oda_proxy.files import atomic
from oda_proxy.files.ownership import make_folder, match_owner
from oda_proxy.store.objects.bodies import INDEX_NAME, MAX_INDEX_NAME, BodiesUnusableError, is_name
from oda_proxy.store.objects.checked_head import check, opened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from oda_proxy.recordings.head import Head
    from oda_proxy.store.rows import HeadFile

_PENDING: Final = "new-"
_READ_SIZE: Final = 128 * 1024


class FolderBodies:
    """Heads as files: `ab/abcd...`, and `new-...` for those that are being written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def probe(self) -> None:
        """Check that a file can be written."""
        with self._translated_errors():
            make_folder(self._folder)
            descriptor, name = tempfile.mkstemp(dir=self._folder, prefix=_PENDING)
            os.close(descriptor)
            Path(name).unlink()

    @property
    def index_name_place(self) -> str:
        """Where the name of the index is, for a person."""
        return str(self._folder / INDEX_NAME)

    def index_name(self) -> bytes | None:
        """Return the name of the index to which the heads belong; None where none was written."""
        with self._translated_errors():
            try:
                with (self._folder / INDEX_NAME).open("rb") as file:
                    return file.read(MAX_INDEX_NAME)
            except FileNotFoundError:
                return None

    def write_index_name(self, name: bytes) -> None:
        """Write the name of the index to which the heads belong."""
        with self._translated_errors():
            atomic.write(self._folder / INDEX_NAME, name)

    def write(self, name: str, content: Sequence[bytes]) -> None:
        """Write a compressed head durably."""
        with self._translated_errors():
            subfolder = self._path(name).parent
            is_new = not subfolder.is_dir()
            if not self._folder.is_dir():  # it is not created again: it may be below a mount point
                raise FileNotFoundError
            make_folder(subfolder)
            descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=_PENDING)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.writelines(content)
                    file.flush()
                    os.fsync(file.fileno())
                match_owner(Path(temporary), self._folder)
                Path(temporary).replace(self._path(name))
            except BaseException:
                with suppress(OSError):
                    Path(temporary).unlink(missing_ok=True)
                raise
            _flush(subfolder)
            if is_new:
                _flush(self._folder)

    def open(self, name: str, head_file: HeadFile) -> Head:
        """Open a head and check its file."""
        with self._translated_errors():
            content = _OpenFile(self._path(name))
            try:
                check(content.chunks(), head_file)
                return opened(content, head_file, str(self._folder))
            except BaseException:
                content.close()
                raise

    def remove(self, name: str) -> None:
        """Remove a head, if it is there."""
        with self._translated_errors():
            self._path(name).unlink(missing_ok=True)

    def names(self) -> Iterator[str]:
        """Iterate over the names of all heads."""
        with self._translated_errors():
            for subfolder in self._folder.glob("[0-9a-f][0-9a-f]"):
                yield from (file.name for file in subfolder.iterdir() if is_name(file.name))

    def remove_leftovers(self, *, before: float) -> int:
        """Remove heads under temporary names that were not written to since a time, in s since 1970 (UTC)."""
        removed = 0
        with self._translated_errors():
            for file in self._folder.glob(f"{_PENDING}*"):
                with suppress(FileNotFoundError):
                    if file.stat().st_mtime < before:
                        file.unlink()
                        removed += 1
        return removed

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if not self._folder.is_dir():
                raise BodiesUnusableError(f"the folder {self._folder} is gone") from error
            raise
        except OSError as error:
            raise BodiesUnusableError(f"the folder {self._folder} fails: {error.strerror or error}") from error


class _OpenFile:
    """An open file, which can be read after it is removed."""

    def __init__(self, path: Path) -> None:
        self._file = FileIO(path)

    def read(self, size: int, at: int) -> bytes:
        """Read up to `size` bytes at an offset, none at the end."""
        return os.pread(self._file.fileno(), size, at)

    def chunks(self) -> Iterator[bytes]:
        """Yield all bytes."""
        at = 0
        while chunk := self.read(_READ_SIZE, at):
            at += len(chunk)
            yield chunk

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _flush(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
