"""Remove the FITS header cards that name the client from the head of a recording, and insert those of another client.

Dispatchers of 2019 write such cards into every product. The place of removed cards is stored as an offset in the text
of the head, at which those of another client are inserted while the head is read.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar
from urllib.parse import quote_plus, unquote_plus

from oda_proxy.query.query import ENVELOPE
from oda_proxy.recordings.redaction import NotStorableError, bare_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Cards: TypeAlias = dict[str, Any]
"""For each card the field of the envelope that it repeats; for `url` its parts: texts, and fields each in a list."""


Piece = TypeVar("Piece", bytes, memoryview)


class Gap(NamedTuple):
    """A place in a head where cards were removed: the offset in bytes, and whether other cards precede it."""

    offset: int
    follows: bool
    cards: Cards


def mark_cards(value: Any, taken: list[Cards]) -> Any:
    """Remove the client's cards from each header, append them to `taken`, and mark the end of the header.

    Returns the same object where there are none.
    """
    if isinstance(value, list):
        items = [mark_cards(inner, taken) for inner in value]
        return value if all(one is other for one, other in zip(items, value, strict=True)) else items
    if not isinstance(value, dict):
        return value
    members = {name: mark_cards(inner, taken) for name, inner in value.items()}
    if isinstance(header := value.get("header"), dict) and (cards := _cards(header)):
        rest = {name: card for name, card in header.items() if name not in cards}
        members["header"] = {**rest, f"\0{len(taken)}": 0}
        taken.append(cards)
    return value if all(members[name] is value[name] for name in value) else members


_MARK = re.compile(r'(,?)"\\u0000(\d{1,9})":0')


def extract_cards(text: str, taken: list[Cards], first: int = 0) -> tuple[bytes, tuple[Gap, ...]]:
    """Return a part of a head as UTF-8 without its marks, and the gaps where they were, as offsets in this part.

    The part has the marks from the number `first` on. Raises NotStorableError where it has others than those of
    `mark_cards`.
    """
    pieces, gaps, size, end = [], [], 0, 0
    for number, mark in enumerate(_MARK.finditer(text), first):
        if number >= len(taken) or int(mark[2]) != number:
            raise NotStorableError("not-an-answer")
        pieces.append(text[end : mark.start()].encode("utf-8"))
        size, end = size + len(pieces[-1]), mark.end()
        gaps.append(Gap(size, bool(mark[1]), taken[number]))
    if first + len(gaps) != len(taken):
        raise NotStorableError("not-an-answer")
    return b"".join((*pieces, text[end:].encode("utf-8"))), tuple(gaps)


def fill_gaps(gaps: Iterable[Gap], client: Mapping[str, Any]) -> tuple[tuple[int, bytes], ...]:
    """Return the cards of a client, each with its offset; a field that it did not send has no card."""
    written = []
    for offset, follows, cards in gaps:
        values = {
            name: _url(field, client) if isinstance(field, list) else client[field]
            for name, field in cards.items()
            if isinstance(field, list) or client.get(field) is not None
        }
        if values:
            text = json.dumps(values, separators=(",", ":"))[1:-1]
            written.append((offset, f"{',' if follows else ''}{text}".encode("ascii")))
    return tuple(written)


def interleave(pieces: Iterable[Piece], inserted: Iterable[tuple[int, bytes]]) -> Iterator[Piece | bytes]:
    """Yield a text in pieces, with other texts inserted at their offsets."""
    at, waiting = 0, list(inserted)
    for piece in pieces:
        begin = 0
        while waiting and waiting[0][0] <= at + len(piece):
            offset, text = waiting.pop(0)
            if offset - at > begin:
                yield piece[begin : offset - at]
            begin = offset - at
            yield text
        if begin < len(piece):
            yield piece[begin:]
        at += len(piece)


def _cards(header: dict[str, Any]) -> Cards:
    """Return the cards of a header that name the client."""
    cards: Cards = {name: bare_name(name) for name in header if bare_name(name) in ENVELOPE}
    for name, value in header.items():
        if bare_name(name) == "url" and isinstance(value, str) and (parts := _parts(value)):
            cards[name] = parts
    return cards


def _parts(url: str) -> list[Any]:
    """Return the parts of an address with the client's fields as gaps; none where it does not name the client."""
    before, mark, query = url.partition("?")
    pairs: list[Any] = []
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        is_gap = unquote_plus(name) in ENVELOPE and value == quote_plus(unquote_plus(value))
        pairs.append([name] if is_gap else pair)
    return [f"{before}{mark}", *pairs] if any(isinstance(pair, list) for pair in pairs) else []


def _url(parts: list[Any], client: Mapping[str, Any]) -> str:
    before, *pairs = parts
    filled = [
        f"{pair[0]}={quote_plus(str(client[pair[0]]), errors='surrogateescape')}" if isinstance(pair, list) else pair
        for pair in pairs
        if not isinstance(pair, list) or client.get(pair[0]) is not None
    ]
    return f"{before}{'&'.join(filled)}"
