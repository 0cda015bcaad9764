"""Recordings in memory, ready to send."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from oda_proxy.recordings import fits_cards
from oda_proxy.recordings.recording import BEGIN, Recording, client_values
from oda_proxy.recordings.tail_template import TailTemplate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from oda_proxy.query.query import Envelope

SMALL = 64 * 1024
"""Bytes of an answer that is joined: the copy costs less than several writes."""
PIECE = 256 * 1024
"""Bytes of a piece of a larger one: what a socket does not take at once is copied before the next one is written."""

Body = tuple[bytes | memoryview, ...]


@dataclass(frozen=True, slots=True)
class LoadedHead:
    """A head in memory, in the parts in which it was read."""

    parts: tuple[bytes, ...] = field(repr=False)
    size: int
    digest: str

    def pieces(self) -> Iterator[bytes]:
        """Yield the text from its beginning."""
        return iter(self.parts)

    def close(self) -> None:
        """Do nothing: others read it, too."""


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class LoadedRecording(Recording):
    """A recording whose head is in memory, and whose tail is a template."""

    template: TailTemplate = field(repr=False, compare=False)


def load(recording: Recording, parts: Iterable[bytes]) -> LoadedRecording:
    """Return a recording with its head in memory, which was read in these parts; the head is not closed."""
    head = LoadedHead(tuple(parts), recording.head.size, recording.head.digest)
    members = {one.name: getattr(recording, one.name) for one in fields(Recording)} | {"head": head}
    return LoadedRecording(**members, template=TailTemplate(Recording(**members)))


def body(recording: LoadedRecording, envelope: Envelope, *, now: float, address: str) -> Body:
    """Return the bytes of the answer of `splice` with the same arguments; those of a large head are not copied."""
    inserted: tuple[tuple[int, bytes], ...] = ()
    if recording.gaps:
        client, job_id = client_values(recording, envelope)
        inserted = fits_cards.fill_gaps(recording.gaps, {**client, "job_id": job_id})
    end = recording.template.fill(envelope, now=now, address=address)
    return assembled(BEGIN, recording.head.pieces(), end, inserted)


def assembled(begin: bytes, head: Iterable[bytes], end: bytes, inserted: tuple[tuple[int, bytes], ...]) -> Body:
    """Return an answer of these parts in one piece if it is small; those of a large head are not copied.

    `inserted` is as in `SplicedAnswer`.
    """
    parts: Iterable[bytes | memoryview] = head
    if inserted:
        parts = fits_cards.interleave(map(memoryview, head), inserted)
    pieces = (begin, *parts, end)
    if sum(map(len, pieces)) <= SMALL:
        return (b"".join(pieces),)
    return tuple(piece for part in pieces for piece in _cut(part))


def _cut(part: bytes | memoryview) -> Iterator[bytes | memoryview]:
    if len(part) <= PIECE:
        yield part
        return
    view = memoryview(part)
    for at in range(0, len(view), PIECE):
        yield view[at : at + PIECE]
