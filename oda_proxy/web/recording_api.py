"""The HTTP API for recordings, below `/-/api/recordings`: list, show, remove, pin (docs/api.md)."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import closing
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from aiohttp import web

from oda_proxy.access.roles import Action
from oda_proxy.errors import BadQueryError, UsageError
from oda_proxy.store.entry_json import entry_json
from oda_proxy.store.selection import WORDS, Filters
from oda_proxy.web.change_log import note_changed
from oda_proxy.web.front_end import public_url
from oda_proxy.web.own_routes import VISITOR, OwnRoute
from oda_proxy.web.problems import problem
from oda_proxy.web.refresh import refresh
from oda_proxy.web.visible_recordings import KEY_PATTERN, RecordingNotFoundError, visible_entries, visible_entry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oda_proxy.access.visitor import Visitor
    from oda_proxy.proxy import Proxy
    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.base import Entry

RECORDINGS: Final = "/-/api/recordings"
ONE: Final = f"{RECORDINGS}/{KEY_PATTERN}"
PAGE: Final = 100
"""Recordings in a list, unless the request names another number."""
MAX_PAGE: Final = 1000
MAX_PAGE_BYTES: Final = 8 * 2**20
"""Bytes of a list after which it ends: queries with catalogues are long."""
CONFIRMED: Final = "yes"
_HEADERS: Final = {"Cache-Control": "no-store"}


def routes(proxy: Proxy) -> Sequence[OwnRoute]:
    """Return the routes of the API."""
    api = _RecordingApi(proxy)
    return (
        OwnRoute("GET", RECORDINGS, Action.READ_RECORDINGS, api.list, "list the recordings that filters select"),
        OwnRoute("DELETE", RECORDINGS, Action.CHANGE, api.remove_selected, "remove the recordings that filters select"),
        OwnRoute(
            "POST", f"{RECORDINGS}/pin", Action.CHANGE, api.pin_selected, "exempt what filters select from eviction"
        ),
        OwnRoute(
            "POST", f"{RECORDINGS}/unpin", Action.CHANGE, api.unpin_selected, "end the exemption of what filters select"
        ),
        OwnRoute("GET", ONE, Action.READ_RECORDINGS, api.show, "show the metadata of a recording"),
        OwnRoute("DELETE", ONE, Action.CHANGE, api.remove, "remove a recording"),
        OwnRoute("POST", f"{ONE}/pin", Action.CHANGE, api.pin, "exempt a recording from eviction"),
        OwnRoute("POST", f"{ONE}/unpin", Action.CHANGE, api.unpin, "end that exemption"),
        OwnRoute("POST", f"{ONE}/refresh", Action.CHANGE, api.refresh, "have a recording computed again"),
    )


class _RecordingApi:
    """Reads and changes the recordings of a proxy for a visitor; the store is used in threads."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._store = proxy.store

    async def list(self, request: web.Request) -> web.Response:
        """Respond with one page of the recordings that the filters of a request select."""
        filters, others = read_filters(request, {"offset", "limit"})
        offset = _number(others, "offset", default=0, least=0, most=2**31)
        limit = _number(others, "limit", default=PAGE, least=1, most=MAX_PAGE)
        texts, has_more = await asyncio.to_thread(self._page, request[VISITOR], filters, offset, limit)
        following = None
        if has_more:
            words = {name: request.query[name] for name in WORDS if name in request.query}
            following = f"?{urlencode({**words, 'offset': offset + len(texts), 'limit': limit})}"
        text = f'{{"recordings": [{", ".join(texts)}], "next": {json.dumps(following)}}}\n'
        return web.json_response(text=text, headers=_HEADERS)

    async def show(self, request: web.Request) -> web.Response:
        """Respond with the metadata of a recording."""
        entry = await self._entry(request)
        timeline = await asyncio.to_thread(self._timeline, entry.key)
        if timeline is None:
            raise RecordingNotFoundError(entry.key, 0)
        return json_response({**entry_json(entry), "timeline": timeline})

    async def remove(self, request: web.Request) -> web.Response:
        """Remove a recording."""
        entry = await self._entry(request)
        if not await asyncio.to_thread(self._store.remove, entry.key):
            raise RecordingNotFoundError(entry.key, 0)
        note_changed(request, [entry.key])
        return json_response({"removed": [entry.key]})

    async def remove_selected(self, request: web.Request) -> web.Response:
        """Remove the recordings that filters select if that is confirmed, and respond with their keys else."""
        filters, others = read_filters(request, {"confirm"})
        _require(filters, "remove")
        confirm = others.get("confirm", "")
        if confirm and confirm != CONFIRMED and not confirm.isascii():
            raise BadQueryError(f"confirm must be {CONFIRMED}, or the number of recordings of the dry run")
        visitor: Visitor = request[VISITOR]
        entries = await asyncio.to_thread(lambda: list(visible_entries(self._store, visitor, filters)))
        selected = {"recordings": len(entries), "size": sum(entry.size for entry in entries)}
        if confirm in {CONFIRMED, str(len(entries))}:
            removed = await asyncio.to_thread(self._remove_all, entries)
            note_changed(request, removed)
            return json_response({"removed": removed})
        if confirm:
            detail = f"the filters select {len(entries)} recordings, not {confirm[:20]}; nothing was removed"
            return problem(HTTPStatus.CONFLICT, detail)
        return json_response({"removed": [], "would_be_removed": [entry.key for entry in entries], **selected})

    async def pin(self, request: web.Request) -> web.Response:
        """Exempt a recording from eviction."""
        return json_response({"pinned": [await self._pin(request, pinned=True)]})

    async def unpin(self, request: web.Request) -> web.Response:
        """End the exemption of a recording from eviction."""
        return json_response(await self._unpinned([await self._pin(request, pinned=False)]))

    async def pin_selected(self, request: web.Request) -> web.Response:
        """Exempt the recordings that filters select from eviction, and respond with their keys."""
        return json_response({"pinned": await self._pin_selected(request, pinned=True)})

    async def unpin_selected(self, request: web.Request) -> web.Response:
        """End the exemption of the recordings that filters select, and respond with their keys."""
        return json_response(await self._unpinned(await self._pin_selected(request, pinned=False)))

    async def _unpinned(self, keys: Sequence[Key]) -> dict[str, Sequence[str]]:
        """Return the members of a response: the keys, and the collections that relied on their exemption."""
        index = self._proxy.collections.index
        names = await asyncio.to_thread(index.names_with, keys) if index else ()
        return {"unpinned": keys, "collections": names}

    async def refresh(self, request: web.Request) -> web.Response:
        """Have a recording computed again."""
        entry = await self._entry(request)
        note_changed(request, [entry.key])
        is_done = await refresh(self._proxy, entry, base_url=public_url(request))
        status = HTTPStatus.OK if is_done else HTTPStatus.ACCEPTED
        return json_response({"refreshed": [entry.key], "state": "done" if is_done else "running"}, status=status)

    async def _pin(self, request: web.Request, *, pinned: bool) -> Key:
        entry = await self._entry(request)
        if not await asyncio.to_thread(self._store.pin, entry.key, pinned=pinned):
            raise RecordingNotFoundError(entry.key, 0)
        note_changed(request, [entry.key])
        return entry.key

    async def _pin_selected(self, request: web.Request, *, pinned: bool) -> Sequence[Key]:
        filters, _ = read_filters(request, set())
        _require(filters, "pin" if pinned else "unpin")
        visitor: Visitor = request[VISITOR]

        def pin_all() -> Sequence[Key]:
            entries = visible_entries(self._store, visitor, filters)
            return [entry.key for entry in list(entries) if self._store.pin(entry.key, pinned=pinned)]

        keys = await asyncio.to_thread(pin_all)
        note_changed(request, keys)
        return keys

    async def _entry(self, request: web.Request) -> Entry:
        """Return the recording that the path of a request names. Raises RecordingNotFoundError."""
        return await asyncio.to_thread(visible_entry, self._store, request[VISITOR], request.match_info["key"])

    def _page(self, visitor: Visitor, filters: Filters, offset: int, limit: int) -> tuple[Sequence[str], bool]:
        """Return the JSON of at most `limit` recordings, less where they are large, and whether there are more."""
        texts, size = list[str](), 0
        for entry in islice(visible_entries(self._store, visitor, filters), offset, None):
            if len(texts) == limit or size > MAX_PAGE_BYTES:
                return texts, True
            texts.append(json.dumps(entry_json(entry)))
            size += len(texts[-1])
        return texts, False

    def _timeline(self, key: Key) -> Sequence[tuple[str, float]] | None:
        recording = self._store.get(key)
        if recording is None:
            return None
        with closing(recording.head):
            return recording.timeline

    def _remove_all(self, entries: Sequence[Entry]) -> Sequence[Key]:
        return [entry.key for entry in entries if self._store.remove(entry.key)]


def _require(filters: Filters, action: str) -> None:
    """Raise BadQueryError where no filter is set: all recordings are meant only where a request says so."""
    if not filters:
        raise BadQueryError(f"name the recordings to {action} by filters ({', '.join(WORDS)}), or by a key in the path")


def read_filters(request: web.Request, others: set[str]) -> tuple[Filters, Mapping[str, str]]:
    """Return the filters in the query string of a request, and the values of the other names that it may have.

    Raises BadQueryError for a name that is unknown or repeated, and for a value that cannot be parsed.
    """
    texts: dict[str, str] = {}
    for name, text in request.query.items():
        if name in texts:
            raise BadQueryError(f"{name} is repeated")
        texts[name] = text
    found = {name: texts.pop(name) for name in others & texts.keys()}
    try:
        return Filters.parse(texts, now=time.time()), found
    except UsageError as error:
        raise BadQueryError(str(error)) from None


def _number(values: Mapping[str, str], name: str, *, default: int, least: int, most: int) -> int:
    text = values.get(name, str(default))
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(most))
    if not is_number or not least <= int(text) <= most:
        raise BadQueryError(f"{name} must be a number from {least} to {most}")
    return int(text)


def json_response(members: Mapping[str, Any], *, status: int = HTTPStatus.OK) -> web.Response:
    """Return JSON that is not stored."""
    return web.json_response(text=f"{json.dumps(members)}\n", status=status, headers=_HEADERS)
