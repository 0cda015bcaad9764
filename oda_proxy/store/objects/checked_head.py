"""A compressed head of which every byte was checked before the first is served."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from oda_proxy.errors import StoreUnusableError
from oda_proxy.recordings.head import MemoryHead
from oda_proxy.store.heads import uncompressed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from oda_proxy.recordings.head import Head
    from oda_proxy.store.rows import HeadFile

SMALL: Final = 256 * 1024
"""Bytes of a head that is decompressed at once."""


class Content(Protocol):
    """The bytes of a compressed head."""

    def read(self, size: int, at: int) -> bytes:
        """Read up to `size` bytes at an offset, none at the end."""

    def close(self) -> None:
        """Release them."""


@dataclass(frozen=True)
class CheckedHead:
    """A head that is read from its checked bytes."""

    head_file: HeadFile
    _content: Content = field(repr=False, compare=False)
    _place: str

    @property
    def size(self) -> int:
        """Bytes of the text."""
        return self.head_file.size

    @property
    def digest(self) -> str:
        """SHA-256 of the text, in hexadecimal digits."""
        return self.head_file.digest

    def pieces(self) -> Iterator[bytes]:
        """Yield the text from its beginning; may be called again. Raises StoreUnusableError."""
        return uncompressed(_Reader(self._content), self.head_file, self._place)

    def close(self) -> None:
        """Release the bytes."""
        self._content.close()


def check(chunks: Iterable[bytes], head_file: HeadFile) -> None:
    """Raise ValueError unless some bytes are a compressed head; no more are read than it has."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        if (size := size + len(chunk)) > head_file.stored_size:
            break
        digest.update(chunk)
    if size != head_file.stored_size or digest.hexdigest() != head_file.name:
        raise ValueError("its head was changed")


def opened(content: Content, head_file: HeadFile, place: str) -> Head:
    """Return a head whose bytes were checked; a small one is decompressed into memory. Raises ValueError."""
    head = CheckedHead(head_file, content, place)
    if max(head_file.size, head_file.stored_size) > SMALL:
        return head
    with closing(head):
        try:
            return MemoryHead(b"".join(head.pieces()))
        except StoreUnusableError as error:
            raise ValueError("its head cannot be decompressed, or has another size") from error


class _Reader:
    """A position of its own in bytes that several readers share."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._offset = 0

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes, none at the end."""
        chunk = self._content.read(size, self._offset)
        self._offset += len(chunk)
        return chunk
