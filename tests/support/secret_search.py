"""Searches files for secrets, also within compressed data."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_ZSTD = bytes.fromhex("28b52ffd")


def secrets_in(data: bytes, secrets: Iterable[bytes]) -> list[bytes]:
    """Return the secrets that occur in some bytes in any case, also within compressed parts."""
    texts = [data.lower()]
    at = data.find(_ZSTD)
    while at >= 0:
        with suppress(zstandard.ZstdError):
            texts.append(zstandard.ZstdDecompressor().decompressobj().decompress(data[at:]).lower())
        at = data.find(_ZSTD, at + 1)
    return [secret for secret in secrets for text in texts if secret.lower() in text]


def secrets_below(folder: Path, secrets: list[bytes]) -> dict[str, list[bytes]]:
    """Return the files below a folder with a secret in their name or content, with these secrets."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    shown = {
        str(file): secrets_in(str(file.relative_to(folder)).encode() + file.read_bytes(), secrets) for file in files
    }
    return {file: found for file, found in shown.items() if found}
