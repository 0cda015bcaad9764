"""Write a changed answer; one of which nothing changes is not written at all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from oda_proxy.codec.json_steps import STEP, compact_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from oda_proxy.compat.parsed_answer import Text


class AnswerWriter:
    """Takes the parts of an answer in order.

    Until the first one changes, only their positions are noted; then they are copied from the original text.
    """

    def __init__(self, original: Text, write: Callable[[bytes], None]) -> None:
        self.is_changed = False
        self._original = original
        self._write = write
        self._pending: list[str | tuple[int, int]] = []

    def mark_changed(self) -> None:
        """Write what was noted, and all that comes."""
        if self.is_changed:
            return
        self.is_changed = True
        for part in self._pending:
            if isinstance(part, str):
                self._write(part.encode())
            else:
                self._copy(*part)
        self._pending.clear()

    def punctuation(self, text: str) -> None:
        """Add text between the values of an answer, which is no change by itself."""
        if self.is_changed:
            self._write(text.encode())
        else:
            self._pending.append(text)

    def name(self, name: str) -> None:
        """Add the name of a member."""
        self.punctuation(f"{json.dumps(name)}:")

    def unchanged(self, begin: int, end: int) -> None:
        """Add a part of the original text."""
        if self.is_changed:
            self._copy(begin, end)
        else:
            self._pending.append((begin, end))

    def changed(self, pieces: Sequence[bytes]) -> None:
        """Add another text."""
        self.mark_changed()
        for piece in pieces:
            self._write(piece)

    def _copy(self, begin: int, end: int) -> None:
        for piece in self._original(begin, end):
            self._write(piece)


def compact_pieces(value: Any) -> Iterator[bytes]:
    """Yield a value as compact JSON, in pieces that are not too small to write."""
    small: list[str] = []
    for part in compact_parts(value):
        if len(part) < STEP:
            small.append(part)
            continue
        if small:
            yield "".join(small).encode()
            small.clear()
        yield from (part[at : at + STEP].encode() for at in range(0, len(part), STEP))
    yield "".join(small).encode()
