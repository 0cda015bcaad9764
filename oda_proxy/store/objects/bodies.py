"""The protocol of a place for the heads of recordings, each under a name that is used once.

A name is the SHA-256 of the compressed head and a random suffix. As none is ever written twice, a late writer cannot
replace what another one wrote, and a late remover cannot remove what is in use again.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from oda_proxy.recordings.head import Head
    from oda_proxy.store.rows import HeadFile

INDEX_NAME: Final = "index-name"
"""The file or object that names the index to which the heads belong."""
MAX_INDEX_NAME: Final = 64
"""Bytes of its content."""

_NAME: Final = re.compile(r"[0-9a-f]{64}-[0-9a-f]{16}")


class BodiesUnusableError(Exception):
    """The folder or the bucket fails; the message is about it, without credentials."""


class Bodies(Protocol):
    """Compressed heads by name. Each method blocks, and raises BodiesUnusableError where the medium fails."""

    def probe(self) -> None:
        """Check that the medium can be used."""

    @property
    def index_name_place(self) -> str:
        """Where the name of the index is, for a person."""

    def index_name(self) -> bytes | None:
        """Return the name of the index to which the heads belong; None where none was written."""

    def write_index_name(self, name: bytes) -> None:
        """Write the name of the index to which the heads belong."""

    def write(self, name: str, content: Sequence[bytes]) -> None:
        """Write a compressed head; once this returns, it survives a crash. Nobody sees a part of it."""

    def open(self, name: str, head_file: HeadFile) -> Head:
        """Open a head and check all of it; raises ValueError if it was changed, FileNotFoundError if it is missing.

        It can be read to its end even where it is removed meanwhile.
        """

    def remove(self, name: str) -> None:
        """Remove a head, if it is there."""

    def names(self) -> Iterator[str]:
        """Iterate over the names of all heads."""

    def remove_leftovers(self, *, before: float) -> int:
        """Remove what crashed writers left before a time, in s since 1970 (UTC), and return how many."""


def confirm(bodies: Bodies) -> None:
    """Check that a medium is the one with the heads, and no empty one in its place, such as a mount point.

    Raises BodiesUnusableError.
    """
    if bodies.index_name() is None:
        raise BodiesUnusableError(f"{bodies.index_name_place} is missing, and so perhaps all heads are")


def new_name(digest: str) -> str:
    """Return a new name for a compressed head with this SHA-256."""
    return f"{digest}-{secrets.token_hex(8)}"


def is_name(text: str) -> bool:
    """Return whether a text is the name of a head."""
    return _NAME.fullmatch(text) is not None
