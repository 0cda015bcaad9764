"""Descriptions of instruments: fetched from the dispatcher, kept beside the recordings, refreshed.

    descriptions/<instrument>.json    every description that was ever seen, newest first, each as the dispatcher gave it

A recording stands under a key that was made with the description of its day. So each description that was ever seen is
kept: years later, and without a dispatcher, the same words find it again. What is asked now is read under the newest.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from cachetools import LRUCache

from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.files import atomic
from oda_proxy.http.message import Request
from oda_proxy.query.schema import LARGEST, Schema, SchemaError, read_schema

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from oda_proxy.http.message import Upstream

_log = logging.getLogger(__name__)

FORMAT: Final = 1
"""Version of the files."""

PATIENCE: Final = 5.0
"""Seconds that a request waits for a description to be refreshed; after that the one that is known has to do."""

LONGEST_WAIT: Final = 60.0
"""Seconds after which a dispatcher that does not describe an instrument is given up, until the next attempt."""

MOST_VERSIONS: Final = 32
"""Descriptions of one instrument that are kept; they change with releases of the dispatcher, some times a year."""

MOST_INSTRUMENTS: Final = 256
"""Instruments remembered at once."""

LONGEST_NAME: Final = 100
"""Characters of the name of an instrument."""

OK = 200


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of an instrument: its descriptions as text and as read, newest first."""

    texts: tuple[str, ...] = ()
    schemas: tuple[Schema, ...] = ()


class Descriptions:
    """Gives the descriptions of instruments.

    Without an upstream they are those in the folder, without a folder those of this run. `ttl` is how long, in s, a
    description counts as fresh; `clock` gives s.
    """

    def __init__(
        self, upstream: Upstream | None, folder: Path | None, *, ttl: float, clock: Callable[[], float]
    ) -> None:
        self._upstream = upstream
        self._folder = folder / "descriptions" if folder else None
        self._ttl = ttl
        self._clock = clock
        self._known: LRUCache[str, _Known] = LRUCache(MOST_INSTRUMENTS)
        self._fresh_until: LRUCache[str, float] = LRUCache(MOST_INSTRUMENTS)
        self._refreshing: dict[str, tuple[asyncio.Task[None], float]] = {}

    async def schemas(self, instrument: str) -> tuple[Schema, ...]:
        """Give every description of an instrument, newest first; none where nobody knows one.

        One that is no longer fresh is asked for again, once however many want it; whoever answers late or not at all
        is not waited for.
        """
        if not instrument.isprintable() or len(instrument) > LONGEST_NAME:
            return ()
        if instrument not in self._known:
            kept = await asyncio.to_thread(self._read, instrument)
            self._known.setdefault(instrument, kept)  # somebody else may have read and refreshed it meanwhile
        if self._upstream and instrument not in self._refreshing and self._is_due(instrument):
            self._begin_to_refresh(instrument, self._upstream)
        if instrument in self._refreshing:
            task, until = self._refreshing[instrument]
            await asyncio.wait({task}, timeout=max(until - asyncio.get_running_loop().time(), 0))
        return self._known.get(instrument, _Known()).schemas

    def invalidate(self, instrument: str) -> None:
        """Have a description asked for again before it is used: an answer contradicted it."""
        self._fresh_until.pop(instrument, None)

    def _is_due(self, instrument: str) -> bool:
        return self._fresh_until.get(instrument, float("-inf")) <= self._clock()

    def _begin_to_refresh(self, instrument: str, upstream: Upstream) -> None:
        """Ask for a description in the background; all who want it meanwhile wait until the same moment."""
        task = asyncio.create_task(self._refresh(instrument, upstream))
        self._refreshing[instrument] = task, asyncio.get_running_loop().time() + PATIENCE
        task.add_done_callback(lambda _: self._refreshing.pop(instrument))

    async def _refresh(self, instrument: str, upstream: Upstream) -> None:
        """Ask for a description; whatever goes wrong, the next attempt is due after the usual time."""
        self._fresh_until[instrument] = self._clock() + self._ttl
        try:
            async with asyncio.timeout(LONGEST_WAIT):
                text = await _fetch(instrument, upstream)
            schema = await asyncio.to_thread(_read_named, text, instrument)
        except (UpstreamUnreachableError, SchemaError, UnicodeDecodeError, TimeoutError) as error:
            _log.info("no description of %r: %s", instrument, str(error) or "no answer in time")
            return
        known = self._known.get(instrument, _Known())
        if text in known.texts[:1]:
            return
        # One that comes back becomes the newest again; its schema stays the same, and so do the keys remembered for it.
        schemas = dict(zip(known.texts, known.schemas, strict=True))
        schemas = {text: schemas.pop(text, schema), **schemas}
        known = _Known(tuple(schemas)[:MOST_VERSIONS], tuple(schemas.values())[:MOST_VERSIONS])
        self._known[instrument] = known
        await asyncio.to_thread(self._write, instrument, known)

    def _file(self, instrument: str) -> Path | None:
        return self._folder / f"{quote(instrument, safe='')}.json" if self._folder else None

    def _read(self, instrument: str) -> _Known:
        """Read what is kept of an instrument; a file that cannot be read is none."""
        file = self._file(instrument)
        try:
            if file is None or not file.is_file() or file.stat().st_size > LARGEST * MOST_VERSIONS:
                return _Known()
            document = json.loads(file.read_bytes())
            if document["format"] != FORMAT:
                raise ValueError(f"its format is {document['format']!r}, this program reads {FORMAT}")  # noqa: TRY301 - told below with what else may be wrong
            texts = tuple(document["meta_data"][:MOST_VERSIONS])
            return _Known(texts, tuple(_read_named(text, instrument) for text in texts))
        except (OSError, ValueError, KeyError, TypeError, SchemaError, RecursionError) as error:
            _log.warning("the descriptions in %s cannot be read: %s", file, error)
            return _Known()

    def _write(self, instrument: str, known: _Known) -> None:
        """Keep what is known of an instrument; where that fails, it is known for as long as this process lives."""
        file = self._file(instrument)
        if file is None:
            return
        document = {"format": FORMAT, "instrument": instrument, "meta_data": known.texts}
        try:
            atomic.write(file, json.dumps(document, indent=1).encode())
        except OSError as error:
            _log.warning("cannot keep the description of %s: %s", instrument, error.strerror or error)


def _read_named(text: Any, instrument: str) -> Schema:
    """Read a description, which must be of that instrument; raises SchemaError."""
    if not isinstance(text, str):
        raise SchemaError("a description is no text")
    schema = read_schema(text)
    if schema.instrument != instrument:
        raise SchemaError(f"the description is of {schema.instrument!r:.100}")
    return schema


async def _fetch(instrument: str, upstream: Upstream) -> str:
    """Ask for the public description of an instrument; raises SchemaError where none comes.

    `api/par-names` need not be asked: it has the names alone, all of which the description has, too.
    """
    headers = (("Accept-Encoding", "identity"), ("Via", "1.1 oda-proxy"))
    reply = await upstream.send(Request("GET", "/api/meta-data", f"instrument={quote(instrument, safe='')}", headers))
    try:
        if reply.status != OK:
            raise SchemaError(f"the dispatcher answers {reply.status}")
        pieces, size = [], 0
        async for piece in reply.body:
            pieces.append(piece)
            size += len(piece)
            if size > LARGEST:
                raise SchemaError(f"the description has more than {LARGEST} bytes")
        return b"".join(pieces).decode("utf-8")
    finally:
        await reply.body.aclose()
