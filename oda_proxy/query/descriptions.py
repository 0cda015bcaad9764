"""Fetch, store and refresh the descriptions of instruments, which cache keys depend on.

    descriptions/<instrument>.json    every description ever fetched, newest first, each as the dispatcher sent it

A recording is stored under a key that was made with the description of its day. Every description ever fetched is
therefore stored: years later, and without a dispatcher, the same fields find the recording. Queries are read with the
newest.
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
from oda_proxy.files.versions import path_of_format
from oda_proxy.http.message import Request
from oda_proxy.query.schema import LARGEST, Schema, SchemaError, read_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from oda_proxy.http.message import Upstream

_log = logging.getLogger(__name__)

FORMAT: Final = 1
"""Version of the files."""

PATIENCE: Final = 5.0
"""Seconds that a request waits for a description to be refreshed, before it uses the cached one."""

TIMEOUT: Final = 60.0
"""Time limit in s for a dispatcher to describe an instrument."""

MAX_VERSIONS: Final = 32
"""Descriptions of one instrument that are stored; they change with releases, a few times a year."""

MAX_INSTRUMENTS: Final = 256
"""Instruments cached in memory."""

MAX_NAME: Final = 100
"""Longest name of an instrument, in characters."""

OK = 200


@dataclass(frozen=True, slots=True)
class _Versions:
    """The descriptions of an instrument as text and as parsed, newest first."""

    texts: tuple[str, ...] = ()
    schemas: tuple[Schema, ...] = ()


class Descriptions:
    """Returns the descriptions of instruments.

    Without an upstream these are the stored ones; without a folder they are cached for this run only. `ttl` is how
    long, in s, a description counts as fresh; `clock` returns s. Those in `former_folders`, the folders of former
    addresses of the dispatcher, count as earlier ones.
    """

    def __init__(
        self,
        upstream: Upstream | None,
        folder: Path | None,
        *,
        ttl: float,
        clock: Callable[[], float],
        former_folders: Sequence[Path] = (),
    ) -> None:
        self._upstream = upstream
        self._folder = folder / "descriptions" if folder else None
        self._former_folders = [former / "descriptions" for former in former_folders]
        self._ttl = ttl
        self._clock = clock
        self._cached: LRUCache[str, _Versions] = LRUCache(MAX_INSTRUMENTS)
        self._fresh_until: LRUCache[str, float] = LRUCache(MAX_INSTRUMENTS)
        self._refreshing: dict[str, tuple[asyncio.Task[None], float]] = {}

    def current_schemas(self, instrument: str) -> tuple[Schema, ...] | None:
        """Return what `schemas` returns; None where that would wait."""
        versions = self._cached.get(instrument)
        if versions is None or instrument in self._refreshing or (self._upstream and self._is_due(instrument)):
            return None
        return versions.schemas

    async def schemas(self, instrument: str, *, may_request: bool = True) -> tuple[Schema, ...]:
        """Return every known description of an instrument, newest first.

        A description that is no longer fresh is fetched again, once for all requests that wait for it, at most
        `PATIENCE` s; after that the cached ones are returned. Unless it `may_request`, these are returned at once.
        """
        if (schemas := self.current_schemas(instrument)) is not None:
            return schemas
        versions = self._cached.get(instrument)
        if not instrument.isprintable() or len(instrument) > MAX_NAME:
            return ()
        if versions is None:
            stored = await asyncio.to_thread(self._read, instrument)
            self._cached.setdefault(instrument, stored)  # another request may have read and refreshed it meanwhile
        if not may_request:
            return self._cached.get(instrument, _Versions()).schemas
        if self._upstream and instrument not in self._refreshing and self._is_due(instrument):
            self._start_refresh(instrument, self._upstream)
        if instrument in self._refreshing:
            task, until = self._refreshing[instrument]
            await asyncio.wait({task}, timeout=max(until - asyncio.get_running_loop().time(), 0))
        return self._cached.get(instrument, _Versions()).schemas

    def stored_schemas(self, instrument: str) -> tuple[Schema, ...]:
        """Return the known descriptions of an instrument, newest first, without a request; may read a file."""
        versions = self._cached.get(instrument)
        if versions is None and instrument.isprintable() and len(instrument) <= MAX_NAME:
            versions = self._read(instrument)
        return versions.schemas if versions else ()

    async def add_earlier(self, others: Descriptions, instrument: str) -> None:
        """Store the descriptions that others have stored of an instrument, as older than those that are stored here."""
        if not instrument.isprintable() or len(instrument) > MAX_NAME:
            return
        own, added = await asyncio.to_thread(self._read, instrument), await asyncio.to_thread(others._read, instrument)
        schemas = dict(zip(added.texts, added.schemas, strict=True)) | dict(zip(own.texts, own.schemas, strict=True))
        texts = tuple(dict.fromkeys((*own.texts, *added.texts)))[:MAX_VERSIONS]
        if texts != own.texts:
            self._cached[instrument] = versions = _Versions(texts, tuple(schemas[text] for text in texts))
            await asyncio.to_thread(self._write, instrument, versions)

    def invalidate(self, instrument: str) -> None:
        """Have a description fetched again before it is next used: an answer contradicted it."""
        self._fresh_until.pop(instrument, None)

    def expire(self) -> None:
        """Have every description fetched again before it is next used."""
        self._fresh_until.clear()

    def _is_due(self, instrument: str) -> bool:
        return self._fresh_until.get(instrument, float("-inf")) <= self._clock()

    def _start_refresh(self, instrument: str, upstream: Upstream) -> None:
        """Fetch a description in the background; all requests that need it wait until the same time."""
        task = asyncio.create_task(self._refresh(instrument, upstream))
        self._refreshing[instrument] = task, asyncio.get_running_loop().time() + PATIENCE
        task.add_done_callback(lambda _: self._refreshing.pop(instrument))

    async def _refresh(self, instrument: str, upstream: Upstream) -> None:
        """Fetch a description; where that fails, the next attempt is due after `ttl`."""
        self._fresh_until[instrument] = self._clock() + self._ttl
        try:
            async with asyncio.timeout(TIMEOUT):
                text = await _fetch(instrument, upstream)
            schema = await asyncio.to_thread(_read_named, text, instrument)
        except (UpstreamUnreachableError, SchemaError, UnicodeDecodeError, TimeoutError) as error:
            # The name of one that was never described may be anything that a client sends.
            is_instrument = bool(self._cached.get(instrument, _Versions()).texts)
            name = repr(instrument) if is_instrument else "an instrument that a client names"
            _log.info("no description of %s: %s", name, str(error) or "no answer in time")
            return
        versions = self._cached.get(instrument, _Versions())
        if text in versions.texts[:1]:
            return
        # An earlier one that comes back becomes the newest; its schema object stays, and with it the memoised keys.
        schemas = dict(zip(versions.texts, versions.schemas, strict=True))
        schemas = {text: schemas.pop(text, schema), **schemas}
        versions = _Versions(tuple(schemas)[:MAX_VERSIONS], tuple(schemas.values())[:MAX_VERSIONS])
        self._cached[instrument] = versions
        await asyncio.to_thread(self._write, instrument, versions)

    def _file(self, instrument: str, folder: Path | None) -> Path | None:
        return folder / f"{quote(instrument, safe='')}.json" if folder else None

    def _read(self, instrument: str) -> _Versions:
        """Read the stored descriptions of an instrument, those of former addresses last."""
        versions = self._read_folder(instrument, self._folder)
        for folder in self._former_folders:
            former = self._read_folder(instrument, folder)
            schemas = dict(zip(versions.texts, versions.schemas, strict=True))
            for text, schema in zip(former.texts, former.schemas, strict=True):
                schemas.setdefault(text, schema)
            versions = _Versions(tuple(schemas)[:MAX_VERSIONS], tuple(schemas.values())[:MAX_VERSIONS])
        return versions

    def _read_folder(self, instrument: str, folder: Path | None) -> _Versions:
        """Read the descriptions in a folder; none, with a warning, where the file is damaged."""
        file = self._file(instrument, folder)
        try:
            file = file and path_of_format(file, FORMAT)
            if file is None or not file.is_file() or file.stat().st_size > LARGEST * MAX_VERSIONS:
                return _Versions()
            document = json.loads(file.read_bytes())
            if document["format"] != FORMAT:
                raise ValueError(f"its format is {document['format']!r}, this program reads {FORMAT}")  # noqa: TRY301 - logged below with any other fault
            texts = tuple(document["meta_data"][:MAX_VERSIONS])
            return _Versions(texts, tuple(_read_named(text, instrument) for text in texts))
        except (OSError, ValueError, KeyError, TypeError, SchemaError, RecursionError) as error:
            _log.warning("the descriptions in %s cannot be read: %s", file, error)
            return _Versions()

    def _write(self, instrument: str, versions: _Versions) -> None:
        """Store the descriptions of an instrument; where that fails they stay cached for this run."""
        file = self._file(instrument, self._folder)
        if file is None:
            return
        document = {"format": FORMAT, "instrument": instrument, "meta_data": versions.texts}
        try:
            atomic.write(path_of_format(file, FORMAT), f"{json.dumps(document, indent=1)}\n".encode())
        except OSError as error:
            _log.warning("cannot store the description of %s: %s", instrument, error.strerror or error)


def _read_named(text: Any, instrument: str) -> Schema:
    """Parse a description, which must be of that instrument. Raises SchemaError."""
    if not isinstance(text, str):
        raise SchemaError("a description is not text")
    schema = read_schema(text)
    if schema.instrument != instrument:
        raise SchemaError(f"the description is of {schema.instrument!r:.100}")
    return schema


async def _fetch(instrument: str, upstream: Upstream) -> str:
    """Fetch the public description of an instrument. Raises SchemaError where the dispatcher sends none.

    `api/par-names` is not needed: the description has all of its names.
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
