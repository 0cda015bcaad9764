"""A temporary file that only this process can read."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.ciphers import CipherContext

BLOCK = 16
"""Bytes of a block of AES."""
STEP = 1024 * 1024
"""Bytes that are encrypted at once: the cipher holds the interpreter lock."""


class EncryptedFile:
    """An unnamed file in the system's temporary folder, encrypted with a key that is in memory only; raises OSError.

    The cipher is AES-256 in counter mode, so that any part can be read by itself. What was written must not be
    overwritten with something else: that would reveal the difference.
    """

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.ciphers import Cipher, modes  # not needed for small answers
        from cryptography.hazmat.primitives.ciphers.algorithms import AES

        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it is open for as long as this object
        algorithm = AES(os.urandom(32))

        def cipher(counter: int) -> CipherContext:
            context: CipherContext = Cipher(algorithm, modes.CTR(counter.to_bytes(BLOCK, "big"))).encryptor()
            return context

        self._cipher: Callable[[int], CipherContext] = cipher

    def write(self, content: bytes, at: int) -> None:
        """Write bytes at an offset."""
        for begin in range(0, len(content), STEP):
            self._write(content[begin : begin + STEP], at + begin)

    def _write(self, content: bytes, at: int) -> None:
        rest = memoryview(self._apply(content, at))
        while rest:
            written = os.pwrite(self._file.fileno(), rest, at)
            at, rest = at + written, rest[written:]

    def read(self, size: int, at: int) -> bytes:
        """Read up to `size` bytes at an offset, none at the end."""
        return self._apply(os.pread(self._file.fileno(), size, at), at)

    def close(self) -> None:
        """Close the file, which removes it."""
        self._file.close()

    def _apply(self, content: bytes, at: int) -> bytes:
        """Encrypt or decrypt bytes at an offset."""
        context = self._cipher(at // BLOCK)
        context.update(bytes(at % BLOCK))
        return context.update(content)
