"""The head of a recording: its large part, which is read in pieces from memory or from a medium."""

from __future__ import annotations

import hashlib
import weakref
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from oda_proxy.http.encrypted_file import EncryptedFile
from oda_proxy.http.spool import CHUNK_SIZE, SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Head(Protocol):
    """Complete JSON text: what is on a medium is checked before it becomes a head."""

    @property
    def size(self) -> int:
        """Bytes of the text."""

    @property
    def digest(self) -> str:
        """SHA-256 of the text, in hexadecimal digits."""

    def pieces(self) -> Iterator[bytes]:
        """Yield the text from its beginning; may be called again. Blocks. Raises StoreUnusableError or SpoolError."""

    def close(self) -> None:
        """Release the medium; a second call does nothing."""


@dataclass(frozen=True)
class MemoryHead:
    """A head in memory."""

    text: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of the text."""
        return len(self.text)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the text, in hexadecimal digits."""
        return hashlib.sha256(self.text).hexdigest()

    def pieces(self) -> Iterator[bytes]:
        """Yield the text from its beginning."""
        return (self.text[at : at + CHUNK_SIZE] for at in range(0, len(self.text), CHUNK_SIZE))

    def close(self) -> None:
        """Do nothing: there is no medium to release."""


class HeadWriter(Protocol):
    """Takes the text of a head in pieces, in memory: nothing is on a medium before all of it was checked."""

    def write(self, piece: bytes) -> None:
        """Append a piece."""

    def finish(self) -> Head:
        """Return the head."""


class MemoryHeadWriter:
    """Takes a head as it is."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, piece: bytes) -> None:
        """Append a piece."""
        self._pieces.append(piece)

    def finish(self) -> MemoryHead:
        """Return the head."""
        return MemoryHead(b"".join(self._pieces))


class SpooledHead:
    """A head in an encrypted temporary file, for a recording that is not stored; raises OSError if it has no room."""

    def __init__(self, head: Head) -> None:
        self.size = head.size
        self.digest = head.digest
        self._file = EncryptedFile()
        weakref.finalize(self, self._file.close)
        at = 0
        for piece in head.pieces():
            self._file.write(piece, at)
            at += len(piece)

    def pieces(self) -> Iterator[bytes]:
        """Yield the text from its beginning; may be called again. Blocks. Raises SpoolError."""
        for at in range(0, self.size, CHUNK_SIZE):
            try:
                piece = self._file.read(min(CHUNK_SIZE, self.size - at), at)
            except OSError as error:
                raise SpoolError(error.strerror or str(error)) from error
            if not piece:
                raise SpoolError(f"it ends after {at} of {self.size} bytes")
            yield piece

    def close(self) -> None:
        """Do nothing: other clients may read it, until the last has ended."""
