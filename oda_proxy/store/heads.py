"""Heads of recordings as files: compressed, each named by the SHA-256 of its own bytes.

A file can thus be checked by itself, without decompressing what was not checked before, and is what another program
(`zstd -d`) reads. Nothing about a check is remembered: bits that flip on a medium change neither size nor date.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from io import FileIO
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import zstandard

from oda_proxy.errors import StoreUnusableError
from oda_proxy.http.spool import CHUNK_SIZE
from oda_proxy.store.rows import HeadFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.recordings.head import Head

_LEVEL = 3
_WINDOW_LOG = 17
"""Log2 of the bytes that a reader keeps while it decompresses, for which 16 readers at once must have room."""

_READ = 64 * 1024
_UNFINISHED = "new-"


@dataclass(frozen=True)
class StoredHead:
    """A head in a file that was checked; it stays open, so that it can be read after its name is gone."""

    kept: HeadFile
    _file: FileIO = field(repr=False, compare=False)

    @property
    def size(self) -> int:
        """Bytes of the text."""
        return self.kept.size

    @property
    def digest(self) -> str:
        """SHA-256 of the text, in hexadecimal digits."""
        return self.kept.digest

    def pieces(self) -> Iterator[bytes]:
        """Give the text from its beginning; raises StoreUnusableError where the medium fails now."""
        decompressor = zstandard.ZstdDecompressor(max_window_size=2**_WINDOW_LOG)
        remain = self.kept.size
        try:
            with decompressor.stream_reader(cast("IO[bytes]", _At(self._file)), read_size=_READ) as text:
                while piece := text.read(min(CHUNK_SIZE, remain + 1)):
                    if (remain := remain - len(piece)) < 0:
                        break
                    yield piece
        except (OSError, ValueError, zstandard.ZstdError) as error:
            raise StoreUnusableError(self._folder, f"a head cannot be read ({error})") from error
        if remain:
            raise StoreUnusableError(self._folder, "a head is not as long as the index says")

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    @property
    def _folder(self) -> Path:
        return Path(str(self._file.name)).parent


class _At:
    """A reader's own place in a file that others read as well."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._at = 0

    def read(self, size: int) -> bytes:
        """Read some bytes, none at the end."""
        content = os.pread(self._file.fileno(), size, self._at)
        self._at += len(content)
        return content


@dataclass(frozen=True, slots=True)
class PendingHead:
    """A head that was written and flushed under a temporary name."""

    kept: HeadFile
    temporary: Path
    file: Path

    def finish(self) -> None:
        """Give it its name, so that a loss of power does not take it away again."""
        self.file.parent.mkdir(exist_ok=True)
        self.temporary.replace(self.file)
        _flush(self.file.parent)
        _flush(self.file.parent.parent)

    def discard(self) -> None:
        """Remove it, where it has not got its name."""
        with suppress(OSError):  # what remains is removed as a crashed writer's
            self.temporary.unlink(missing_ok=True)


class Heads:
    """The folder of heads: `ab/abcd...`, with `new-...` beside for those being written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, head: Head) -> PendingHead:
        """Write a head under a temporary name; raises OSError."""
        parameters = zstandard.ZstdCompressionParameters.from_level(_LEVEL, window_log=_WINDOW_LOG, write_checksum=True)
        compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=head.size)
        descriptor, name = tempfile.mkstemp(dir=self.folder, prefix=_UNFINISHED)
        temporary = Path(name)
        text, stored, stored_size = hashlib.sha256(), hashlib.sha256(), 0
        try:
            with os.fdopen(descriptor, "wb") as file:
                for piece in chain(head.pieces(), (b"",)):
                    compressed = compressor.compress(piece) if piece else compressor.flush()
                    text.update(piece)
                    stored.update(compressed)
                    stored_size += file.write(compressed)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        kept = HeadFile(text.hexdigest(), head.size, stored.hexdigest(), stored_size)
        return PendingHead(kept, temporary, self.file(kept.name))

    def open(self, kept: HeadFile) -> StoredHead:
        """Open a head and check all of it; raises FileNotFoundError, ValueError for a changed one, or OSError."""
        file = FileIO(self.file(kept.name))
        with ExitStack() as stack:
            stack.callback(file.close)
            digest = hashlib.sha256()
            reader = _At(file)
            while content := reader.read(_READ):
                digest.update(content)
            if digest.hexdigest() != kept.name:
                raise ValueError("its head is not what was written")
            stack.pop_all()  # it stays open for whoever reads it
        return StoredHead(kept, file)

    def file(self, name: str) -> Path:
        """Name the file of a head."""
        return self.folder / name[:2] / name

    def names(self) -> Iterator[str]:
        """Name the heads that are there."""
        for place in self.folder.iterdir():
            if place.is_dir():
                yield from (file.name for file in place.iterdir())

    def unfinished(self, *, before: float) -> Iterator[Path]:
        """Give what was not written any further since that time, in s since 1970."""
        for file in self.folder.glob(f"{_UNFINISHED}*"):
            with suppress(FileNotFoundError):
                if file.stat().st_mtime < before:
                    yield file


def _flush(folder: Path) -> None:
    """Have the names in a folder on the disk, not only in memory."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
