"""Heads of recordings as compressed files, each named by the SHA-256 of its bytes.

A file can thus be checked before it is decompressed, and other programs (`zstd -d`) can read it. It is checked each
time it is opened: a bit that flips on the medium changes neither its size nor its date. For a large file that takes
less time with XXH3, which finds such changes as well, and is in the row beside the name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, cast

import xxhash
import zstandard

from oda_proxy.errors import StoreUnusableError
from oda_proxy.files.ownership import make_folder, match_owner
from oda_proxy.files.page_cache import read_cached
from oda_proxy.recordings.head import MemoryHead
from oda_proxy.store import layout
from oda_proxy.store.rows import HeadFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from oda_proxy.recordings.head import Head

_LEVEL = 3
_LARGE = 1024 * 1024
"""Bytes from which on a head is compressed at level 1: in a fifth of the time, to 4 % more: base64 has no patterns."""
_LEVEL_OF_LARGE = 1
_LEVEL_OF_NOISE = -1
"""Level for large heads that become hardly smaller: without entropy coding, which takes six times as long to undo."""
_NOISE = 0.6
"""Size of a compressed sample, as a fraction of the sample, from which on a head is noise; base64 of it has 0.75."""
_SAMPLE = 512 * 1024
"""Bytes at the beginning of a large head that tell its level."""
_WINDOW_LOG = 17
"""Log2 of the bytes that a reader needs for decompression: 16 readers at once must fit into memory."""

_READ_SIZE = 256 * 1024
_PIECE_SIZE = 256 * 1024
"""Bytes of a piece that is decompressed at once: each costs a turn of the event loop, and waits for the interpreter."""
_CHECK_SIZE = 512 * 1024
"""Bytes of a file that are checked at once."""
_PENDING_PREFIX = "new-"
SMALL = 256 * 1024
"""Bytes of a head that is read at once: each call that leaves the interpreter waits for the event loop."""


class Readable(Protocol):
    """What is read from its beginning to its end."""

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes, none at the end."""


@dataclass(frozen=True)
class StoredHead:
    """A head whose file was checked; the file stays open, so that it can be read after it is removed."""

    head_file: HeadFile
    _file: FileIO = field(repr=False, compare=False)

    @property
    def size(self) -> int:
        """Bytes of the head, uncompressed."""
        return self.head_file.size

    @property
    def digest(self) -> str:
        """SHA-256 of the head, uncompressed, in hexadecimal digits."""
        return self.head_file.digest

    def pieces(self) -> Iterator[bytes]:
        """Iterate over the uncompressed head; raises StoreUnusableError where the file cannot be read."""
        return uncompressed(_Reader(self._file), self.head_file, self._folder)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def _folder(self) -> Path:
        return Path(str(self._file.name)).parent


def uncompressed(compressed: Readable, head_file: HeadFile, place: Path | str) -> Iterator[bytes]:
    """Iterate over the text of a compressed head. Raises StoreUnusableError, which names `place`."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=2**_WINDOW_LOG)
    remaining = head_file.size
    try:
        with decompressor.stream_reader(cast("IO[bytes]", compressed), read_size=_READ_SIZE) as text:
            while chunk := text.read(min(_PIECE_SIZE, remaining + 1)):
                if (remaining := remaining - len(chunk)) < 0:
                    break
                yield chunk
    except (OSError, ValueError, zstandard.ZstdError) as error:
        raise StoreUnusableError(place, f"a head cannot be read ({error})") from error
    if remaining:
        raise StoreUnusableError(place, "a head has not the size that the index states")


@dataclass(frozen=True)
class SmallHead(MemoryHead):
    """A head that was read from its file at once."""

    head_file: HeadFile
    path: str
    """A text: a Path takes longer than to open it."""

    def read_again(self) -> bytes | None:
        """Return the text as it is in the file now; None where that is not in the page cache, or was changed.

        Does not block.
        """
        content = read_cached(self.path, self.head_file.stored_size + 1)
        with suppress(ValueError):
            return None if content is None else _text(self.head_file, content)
        return None


@dataclass(frozen=True, slots=True)
class UnwrittenHead:
    """A head in memory, compressed as in its file, which is not written yet."""

    head_file: HeadFile
    content: tuple[bytes, ...] = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of the head, uncompressed."""
        return self.head_file.size

    @property
    def digest(self) -> str:
        """SHA-256 of the head, uncompressed, in hexadecimal digits."""
        return self.head_file.digest

    def pieces(self) -> Iterator[bytes]:
        """Iterate over the uncompressed head."""
        decompressor = zstandard.ZstdDecompressor(max_window_size=2**_WINDOW_LOG).decompressobj()
        for compressed in self.content:
            if piece := decompressor.decompress(compressed):
                yield piece

    def close(self) -> None:
        """Do nothing: it is in memory."""


class CompressedHeadWriter:
    """Compresses a head piece by piece; `size` is about that of its text in bytes."""

    def __init__(self, size: int) -> None:
        self._is_large = size >= _LARGE
        self._compressor = None if self._is_large else _compressor(_LEVEL).compressobj()
        self._sample = bytearray()
        self._digest = hashlib.sha256()
        self._pending: deque[Future[None]] = deque()
        self._size = 0
        self._content: list[bytes] = []

    def write(self, piece: bytes) -> None:
        """Append a piece."""
        self._size += len(piece)
        if not self._is_large:
            self._compress(piece)
            return
        while len(self._pending) >= _MAX_PENDING:
            self._pending.popleft().result()
        self._pending.append(_COMPRESSION.submit(self._compress, piece))

    def finish(self) -> UnwrittenHead:
        """Return the head."""
        for pending in self._pending:
            pending.result()
        compressor = self._compressor or self._begin()
        self._content.append(compressor.flush())
        content = _with_content_size(self._content, self._size)
        digest, checksum, size = hashlib.sha256(), xxhash.xxh3_128(), 0
        for compressed in content:
            digest.update(compressed)
            checksum.update(compressed)
            size += len(compressed)
        head_file = HeadFile(self._digest.hexdigest(), self._size, digest.hexdigest(), size, checksum.hexdigest())
        return UnwrittenHead(head_file, content)

    def _compress(self, piece: bytes) -> None:
        self._digest.update(piece)
        if self._compressor is None:
            self._sample += piece
            if len(self._sample) >= _SAMPLE:
                self._begin()
        elif compressed := self._compressor.compress(piece):
            self._content.append(compressed)

    def _begin(self) -> zstandard.ZstdCompressionObj:
        """Begin to compress a large head, at the level that suits its sample."""
        sample = memoryview(self._sample)[:_SAMPLE]
        is_noise = len(_compressor(_LEVEL_OF_LARGE).compress(sample)) >= _NOISE * len(sample)
        self._compressor = _compressor(_LEVEL_OF_NOISE if is_noise else _LEVEL_OF_LARGE).compressobj()
        if compressed := self._compressor.compress(self._sample):
            self._content.append(compressed)
        self._sample = bytearray()
        return self._compressor


def _compressor(level: int) -> zstandard.ZstdCompressor:
    parameters = zstandard.ZstdCompressionParameters.from_level(level, window_log=_WINDOW_LOG, write_checksum=True)
    return zstandard.ZstdCompressor(compression_params=parameters)


_MAX_PENDING = 16
"""Pieces of a head that wait to be compressed."""
_COMPRESSION = ThreadPoolExecutor(1, thread_name_prefix="compression")
"""Compresses large heads while their next products are processed: one thread, so that pieces keep their order."""

_DESCRIPTOR = 4
"""Place of the frame header descriptor in a frame of zstd (RFC 8878, section 3.1.1.1), after the magic number."""
_HAS_SIZE = 0xE0
"""The bits in it of which one is set if the frame has the size of its content."""
_SIZE_OF_8_BYTES = 0xC0
"""The bits in it that say that the frame has its size, in eight bytes after the next byte."""


def _with_content_size(frame: list[bytes], size: int) -> tuple[bytes, ...]:
    """Return a frame with the size of its content, which was not known when its header was written.

    Without it, not every program reserves enough memory to decompress it.
    """
    header, *rest = frame
    if header[_DESCRIPTOR] & _HAS_SIZE:  # an empty one
        return tuple(frame)
    begin, window, blocks = header[:_DESCRIPTOR], header[_DESCRIPTOR + 1 : _DESCRIPTOR + 2], header[_DESCRIPTOR + 2 :]
    descriptor = bytes([header[_DESCRIPTOR] | _SIZE_OF_8_BYTES])
    return b"".join((begin, descriptor, window, size.to_bytes(8, "little"), blocks)), *rest


class _Reader:
    """A position of its own in a file that several readers share."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._offset = 0

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes, none at the end."""
        content = os.pread(self._file.fileno(), size, self._offset)
        self._offset += len(content)
        return content


@dataclass(frozen=True, slots=True)
class PendingHead:
    """A head that was written and flushed under a temporary name."""

    head_file: HeadFile
    temporary: Path
    path: Path
    flushed: set[str]
    """The names of subfolders that are known to be on the disk: this process has flushed their folder since."""

    def commit(self) -> None:
        """Rename it to its name, durably: it survives a loss of power."""
        subfolder = self.path.parent
        is_flushed = subfolder.name in self.flushed and subfolder.is_dir()
        make_folder(subfolder)
        self.temporary.replace(self.path)
        _sync_folder(subfolder)
        if not is_flushed:
            _sync_folder(subfolder.parent)
            self.flushed.add(subfolder.name)

    def discard(self) -> None:
        """Remove it, unless it was renamed."""
        with suppress(OSError):  # it is removed later, like that of a crashed writer
            self.temporary.unlink(missing_ok=True)


class Heads:
    """The folder of heads: `ab/abcd...`, and `new-...` for those being written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._root = str(folder)
        self._flushed: set[str] = set()

    def write(self, head: Head) -> PendingHead:
        """Write a head under a temporary name; raises OSError."""
        compressed = head if isinstance(head, UnwrittenHead) else _compressed(head)
        descriptor, name = tempfile.mkstemp(dir=self.folder, prefix=_PENDING_PREFIX)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for content in compressed.content:
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
            match_owner(temporary, self.folder)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return PendingHead(compressed.head_file, temporary, self.path(compressed.head_file.name), self._flushed)

    def open(self, head_file: HeadFile, *, is_thorough: bool = False) -> Head:
        """Open a head and check its file; raises ValueError if that was changed, FileNotFoundError, or OSError.

        A small one is read into memory. The SHA-256 of a large one is compared if it `is_thorough`, or nothing else is
        known.
        """
        if max(head_file.stored_size, head_file.size) <= SMALL:
            path = f"{self._root}/{head_file.name[:2]}/{head_file.name}"
            return SmallHead(_text(head_file, _content(path, head_file.stored_size)), head_file, path)
        file = FileIO(self.path(head_file.name))
        with ExitStack() as stack:
            stack.callback(file.close)
            is_fast = bool(head_file.checksum) and not is_thorough
            digest = xxhash.xxh3_128() if is_fast else hashlib.sha256()
            buffer, at = memoryview(bytearray(_CHECK_SIZE)), 0
            while size := os.preadv(file.fileno(), (buffer,), at):
                digest.update(buffer[:size])
                at += size
            if digest.hexdigest() != (head_file.checksum if is_fast else head_file.name):
                raise ValueError("its head was changed")
            stack.pop_all()  # it stays open for the caller
        return StoredHead(head_file, file)

    def remove(self, name: str) -> None:
        """Remove the file of a head, if it is there, and the pictures that were drawn of it; raises OSError."""
        self.path(name).unlink(missing_ok=True)
        shutil.rmtree(pictures_of(self.folder.parent / layout.PICTURES, name), ignore_errors=True)

    def path(self, name: str) -> Path:
        """Return the path of a head."""
        return self.folder / name[:2] / name

    def names(self) -> Iterator[tuple[str, OSError | None]]:
        """Iterate over the names of all heads; a subfolder that cannot be read is returned with its error."""
        with suppress(FileNotFoundError):
            for subfolder in self.folder.iterdir():
                try:
                    names = [file.name for file in subfolder.iterdir()] if subfolder.is_dir() else []
                except OSError as error:
                    yield subfolder.name, error
                else:
                    yield from ((name, None) for name in names)

    def pending(self, *, before: float) -> Iterator[Path]:
        """Iterate over heads under temporary names that were not written to since `before`, in s since 1970."""
        for file in self.folder.glob(f"{_PENDING_PREFIX}*"):
            with suppress(FileNotFoundError):
                if file.stat().st_mtime < before:
                    yield file


def pictures_of(folder: Path, name: str) -> Path:
    """Return the folder with the pictures of a head, in that of all pictures."""
    return folder / name[:2] / name


def _compressed(head: Head) -> UnwrittenHead:
    writer = CompressedHeadWriter(head.size)
    for piece in head.pieces():
        writer.write(piece)
    return writer.finish()


def _content(path: str, size: int) -> bytes:
    """Return the bytes of a small file, and one more if it is longer than `size`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, size + 1)
    finally:
        os.close(descriptor)


def _text(head_file: HeadFile, content: bytes) -> bytes:
    """Return the head in the bytes of a file; raises ValueError where they are not as they were written."""
    if hashlib.sha256(content).hexdigest() != head_file.name:
        raise ValueError("its head was changed")
    decompressor = zstandard.ZstdDecompressor(max_window_size=2**_WINDOW_LOG)
    try:
        with decompressor.stream_reader(content) as reader:
            text: bytes = reader.read(head_file.size + 1)
    except zstandard.ZstdError as error:
        raise ValueError(f"its head cannot be decompressed ({error})") from error
    if len(text) != head_file.size:
        raise ValueError("its head has not the size that the index states")
    return text


def _sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
