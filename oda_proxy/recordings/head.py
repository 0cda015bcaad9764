"""The large part of a recording, wherever it lies: text that is read piece by piece."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from oda_proxy.http.spool import CHUNK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator


class Head(Protocol):
    """JSON text, whole: what is read from a medium was checked before it is given out as a head."""

    @property
    def size(self) -> int:
        """Bytes of the text."""

    @property
    def digest(self) -> str:
        """SHA-256 of the text, in hexadecimal digits."""

    def pieces(self) -> Iterator[bytes]:
        """Give the text from its beginning, as often as wanted; blocks. Raises StoreUnusableError."""

    def close(self) -> None:
        """Let go of the medium; a second time does nothing."""


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
        """Give the text from its beginning."""
        return (self.text[at : at + CHUNK_SIZE] for at in range(0, len(self.text), CHUNK_SIZE))

    def close(self) -> None:
        """Keep the text: there is no medium."""
