"""Pages that change a recording: each asks for confirmation, and then does it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias

from aiohttp import web

from oda_proxy.access.roles import Action
from oda_proxy.pages import overview, rendering
from oda_proxy.web.change_log import note_changed
from oda_proxy.web.front_end import public_url
from oda_proxy.web.own_routes import VISITOR, OwnRoute
from oda_proxy.web.refresh import refresh
from oda_proxy.web.visible_recordings import KEY_PATTERN, RecordingNotFoundError, visible_entry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from oda_proxy.access.visitor import Visitor
    from oda_proxy.proxy import Proxy
    from oda_proxy.store.base import Entry, Store

Perform: TypeAlias = "Callable[[Entry, web.Request], Awaitable[str]]"
"""Changes a recording, and returns the word of a notice in `NOTICES`."""

NOTICES: Final[Mapping[str, str]] = {
    "removed": "The recording was removed. The next query for it goes to the dispatcher.",
    "pinned": "The recording is pinned: it is not evicted.",
    "unpinned": "The recording is no longer pinned.",
    "refreshed": "The recording was computed again.",
    "running": "The recording is being computed again. Clients receive the old one until that is done.",
}
"""What a page says after a change; the word is in its address."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change, as its page describes it."""

    name: str
    action: str
    title: str
    consequence: str
    button: str
    perform: Perform
    is_dangerous: bool = False
    leaves_page: bool = True
    """Whether the page of the recording is there afterwards."""


def changes_of(proxy: Proxy) -> list[Change]:
    """Return the changes of the recordings of a proxy."""
    store = proxy.store

    async def remove(entry: Entry, _: web.Request) -> str:
        if not await asyncio.to_thread(store.remove, entry.key):
            raise RecordingNotFoundError(entry.key, 0)
        return "removed"

    async def set_pin(entry: Entry, *, pinned: bool) -> str:
        if not await asyncio.to_thread(store.pin, entry.key, pinned=pinned):
            raise RecordingNotFoundError(entry.key, 0)
        return "pinned" if pinned else "unpinned"

    async def pin(entry: Entry, _: web.Request) -> str:
        return await set_pin(entry, pinned=True)

    async def unpin(entry: Entry, _: web.Request) -> str:
        return await set_pin(entry, pinned=False)

    async def compute_again(entry: Entry, request: web.Request) -> str:
        return "refreshed" if await refresh(proxy, entry, base_url=public_url(request)) else "running"

    return [
        Change(
            "refresh",
            "compute a recording again",
            "Compute this recording again?",
            "Its query is sent to the dispatcher, and the result replaces the recording. Clients receive the old one "
            "until then.",
            "Compute again",
            compute_again,
        ),
        Change(
            "remove",
            "remove a recording",
            "Remove this recording?",
            "The next query for it goes to the dispatcher, and takes as long as the job takes there.",
            "Remove",
            remove,
            is_dangerous=True,
            leaves_page=False,
        ),
        Change(
            "pin",
            "pin a recording",
            "Pin this recording?",
            "It is then not evicted, however full the store is.",
            "Pin",
            pin,
        ),
        Change(
            "unpin",
            "unpin a recording",
            "Unpin this recording?",
            "It may then be evicted when the store is full.",
            "Unpin",
            unpin,
        ),
    ]


def routes(store: Store, changes: Sequence[Change]) -> Sequence[OwnRoute]:
    """Return the routes of the pages."""

    def routes_of(change: Change) -> Sequence[OwnRoute]:
        async def confirm(request: web.Request) -> web.Response:
            entry = await _entry(store, request)
            row = overview.row_of(entry, now=entry.stored_at)
            text = rendering.render(
                "confirm.html",
                rendering.root_of(request.rel_url.raw_path),
                current="",
                **rendering.header_of(request),
                change=change,
                what=" ".join(filter(None, (row.product, row.source))),
                when=row.time_range,
                short_key=row.short_key,
                back=f"../{entry.key}",
            )
            return rendering.page(text)

        async def perform(request: web.Request) -> web.Response:
            entry = await _entry(store, request)
            notice = await change.perform(entry, request)
            note_changed(request, [entry.key])
            target = f"../{entry.key}" if change.leaves_page else "../../"
            headers = {"Location": f"{target}?notice={notice}", "Cache-Control": "no-store"}
            return web.Response(status=HTTPStatus.SEE_OTHER, headers=headers)

        path = f"/-/recordings/{KEY_PATTERN}/{change.name}"
        return (
            OwnRoute("GET", path, Action.CHANGE, confirm, f"a page that asks whether to {change.action}"),
            OwnRoute("POST", path, Action.CHANGE, perform, f"{change.action}, for the page"),
        )

    return [route for change in changes for route in routes_of(change)]


def notice_of(request: web.Request) -> str:
    """Return what a page says about the change that led to it, or an empty text."""
    return NOTICES.get(request.query.get("notice", ""), "")


async def _entry(store: Store, request: web.Request) -> Entry:
    visitor: Visitor = request[VISITOR]
    return await asyncio.to_thread(visible_entry, store, visitor, request.match_info["key"])
