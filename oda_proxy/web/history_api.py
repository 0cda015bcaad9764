"""The HTTP API for the versions of recordings: as JSON, and as TimeMaps (RFC 7089, section 5)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

from oda_proxy.access.roles import Action
from oda_proxy.errors import BadQueryError
from oda_proxy.handlers.mementos import TIMEMAP, analysis_target
from oda_proxy.http.memento import MEDIA_TYPE, TimeLine
from oda_proxy.http.scope import AsOf
from oda_proxy.query.query import query_fields
from oda_proxy.store.entry_json import entry_json
from oda_proxy.store.history_limits import version_at
from oda_proxy.web.change_log import note_changed
from oda_proxy.web.front_end import public_url
from oda_proxy.web.own_routes import VISITOR, OwnRoute
from oda_proxy.web.recording_api import ONE, json_response
from oda_proxy.web.visible_recordings import KEY_PATTERN, visible_versions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oda_proxy.proxy import Proxy
    from oda_proxy.store.base import Entry

VERSIONS: Final = f"{ONE}/versions"
ALL: Final = "all"
_TIMEMAP: Final = f"{TIMEMAP}{KEY_PATTERN}"


def routes(proxy: Proxy) -> Sequence[OwnRoute]:
    """Return the routes of the API."""
    api = _HistoryApi(proxy)
    return (
        OwnRoute("GET", VERSIONS, Action.READ_RECORDINGS, api.list, "list the versions of a recording"),
        OwnRoute("DELETE", VERSIONS, Action.CHANGE, api.remove, "remove earlier versions of a recording"),
        OwnRoute(
            "GET",
            f"{TIMEMAP}{KEY_PATTERN}",
            Action.READ_RECORDINGS,
            api.timemap,
            "the TimeMap of a recording (RFC 7089)",
        ),
    )


class _HistoryApi:
    """Reads and removes the versions of recordings for a visitor; the store is used in threads."""

    def __init__(self, proxy: Proxy) -> None:
        self._store = proxy.store

    async def list(self, request: web.Request) -> web.Response:
        """Respond with the metadata of the versions of a recording, in order of time."""
        versions = await self._versions(request)
        return json_response({"versions": [{**entry_json(one), "valid_from": one.valid_from} for one in versions]})

    async def remove(self, request: web.Request) -> web.Response:
        """Remove the earlier version of a time, or all of them (`at=all`)."""
        versions = await self._versions(request)
        earlier = [one for one in versions if one.valid_until is not None]
        at = request.query.get("at", "")
        if at != ALL:
            found = version_at(earlier, AsOf.parse(at).time)
            if found is None:
                raise BadQueryError(f"there is no earlier version at {at[:40]}; the recording itself has its own route")
            earlier = [found]
        removed = await asyncio.to_thread(self._store.remove_versions, earlier)
        note_changed(request, [one.key for one in removed])
        return json_response({"removed": [one.valid_from for one in removed]})

    async def timemap(self, request: web.Request) -> web.Response:
        """Respond with the TimeMap of a recording."""
        versions = await self._versions(request)
        base_url, last = public_url(request), versions[-1]
        target = analysis_target(query_fields(last.query) if last.query else ())
        line = TimeLine(base_url, target, f"{base_url}{TIMEMAP}{last.key}", tuple(one.valid_from for one in versions))
        return web.Response(text=line.document(), content_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})

    async def _versions(self, request: web.Request) -> Sequence[Entry]:
        beginning = request.match_info["key"]
        return await asyncio.to_thread(visible_versions, self._store, request[VISITOR], beginning)
