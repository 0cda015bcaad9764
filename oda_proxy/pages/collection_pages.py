"""The pages of collections: all of them, one, and the page that removes one after a confirmation."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from aiohttp import web

from oda_proxy.access.roles import Action
from oda_proxy.errors import OdaProxyError
from oda_proxy.pages import overview, quantities, rendering
from oda_proxy.query.cache_key import short_key
from oda_proxy.query.message_text import shorten
from oda_proxy.recordings import failures
from oda_proxy.store.collections import FAILURE, LEFT_OUT, RECORDING, remove_collection
from oda_proxy.web.change_log import note_changed
from oda_proxy.web.front_end import public_url
from oda_proxy.web.own_routes import VISITOR, OwnRoute
from oda_proxy.web.visible_collections import visible_collection, visible_collections

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from oda_proxy.access.visitor import Visitor
    from oda_proxy.proxy import Proxy
    from oda_proxy.store.base import Entry
    from oda_proxy.store.collections import Collection, Collections, Member

PATH: Final = "/-/collections"
ONE: Final = f"{PATH}/{{collection:[A-Za-z0-9-]{{1,64}}}}"
MAX_ROWS: Final = 500
"""Members that the page of a collection lists."""
_OWNER: Final = 12
_MAX_TEXT: Final = 200


@dataclass(frozen=True, slots=True)
class CollectionRow:
    """A collection in the list."""

    name: str
    owner: str
    """The beginning of its owner; empty where its requests had no token."""
    link: str
    """Relative to `/-/`."""
    capsule: str
    """The link to the capsule, relative to `/-/`."""
    recordings: str
    failures: str
    size: str
    contents: str
    """All three in words."""
    changed: str
    changed_at: str


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A recording, failure, or answer that was not stored, in a collection."""

    key: str
    title: str
    instrument: str
    source: str
    position: str
    time_range: str
    flags: tuple[str, ...]
    note: str
    """What a capsule of it lacks, or the message of a failure."""
    has_page: bool
    size: str
    uses: str
    first: str
    first_at: str


@dataclass(frozen=True, slots=True)
class CapsuleRow:
    """A capsule that the server serves before the recordings of its store."""

    name: str
    recordings: str


@dataclass(frozen=True, slots=True)
class CollectionPages:
    """The pages of the collections of a proxy; `clock` returns s since 1970 (UTC)."""

    proxy: Proxy
    index: Collections
    clock: Callable[[], float]

    def routes(self) -> Sequence[OwnRoute]:
        """Return the routes."""
        read = Action.READ_RECORDINGS
        return (
            OwnRoute("GET", PATH, read, self.all, "the collections, and the capsules that are served: a page"),
            OwnRoute("GET", ONE, read, self.one, "a collection: a page"),
            OwnRoute(
                "GET", f"{ONE}/remove", Action.CHANGE, self.confirm, "a page that asks whether to remove a collection"
            ),
            OwnRoute("POST", f"{ONE}/remove", Action.CHANGE, self.remove, "remove a collection, for the page"),
        )

    async def all(self, request: web.Request) -> web.Response:
        """Respond with the list of collections."""
        found = await asyncio.to_thread(visible_collections, self.index, request[VISITOR])
        notice = "The collection was removed. Its recordings stay, and may be evicted."
        return rendering.page(
            rendering.render(
                "collections.html",
                rendering.root_of(request.rel_url.raw_path),
                current="Collections",
                **rendering.header_of(request),
                notice=notice if request.query.get("notice") == "removed" else "",
                collections=[_row(one, now=self.clock()) for one in found],
                capsules=[
                    CapsuleRow(one.path.name, quantities.plural(one.recordings, "recording"))
                    for one in self.proxy.capsules.capsules
                ],
                server_url=public_url(request),
            )
        )

    async def one(self, request: web.Request) -> web.Response:
        """Respond with the page of a collection. Raises NoCollectionError."""
        collection, visitor, now = await self._one(request), request[VISITOR], self.clock()

        def build() -> str:
            members = self.index.members(collection)
            rows = [self._member_row(member, visitor, now=now) for member in members[:MAX_ROWS]]
            return rendering.render(
                "collection.html",
                rendering.root_of(request.rel_url.raw_path),
                current="Collections",
                **rendering.header_of(request),
                collection=_row(collection, now=now),
                created=quantities.moment(collection.created),
                members=rows,
                more=max(len(members) - MAX_ROWS, 0),
                may_change=visitor.may(Action.CHANGE),
                address=f"{public_url(request)}/in/{collection.name}",
            )

        return rendering.page(await asyncio.to_thread(build))

    async def confirm(self, request: web.Request) -> web.Response:
        """Respond with a page that asks whether to remove a collection."""
        row = _row(await self._one(request), now=self.clock())
        return rendering.page(
            rendering.render(
                "remove_collection.html",
                rendering.root_of(request.rel_url.raw_path),
                current="Collections",
                **rendering.header_of(request),
                collection=row,
            )
        )

    async def remove(self, request: web.Request) -> web.Response:
        """Remove a collection, and respond with the way to the list."""
        collection = await self._one(request)
        await asyncio.to_thread(remove_collection, self.index, self.proxy.store, collection)
        note_changed(request, [collection.name])
        headers = {"Location": "../../collections?notice=removed", "Cache-Control": "no-store"}
        return web.Response(status=HTTPStatus.SEE_OTHER, headers=headers)

    async def _one(self, request: web.Request) -> Collection:
        name, beginning = request.match_info["collection"], request.query.get("owner", "")
        return await asyncio.to_thread(visible_collection, self.index, request[VISITOR], name, beginning)

    def _member_row(self, member: Member, visitor: Visitor, *, now: float) -> MemberRow:
        """Return the row of a member; nothing of a recording that the visitor may not see."""
        title, instrument, size, note = "unknown query", "", "", ""
        flags, row = tuple[str, ...](), None
        if member.kind == RECORDING:
            entry = self.proxy.store.entry(member.key)
            if not self._is_stored(member, entry):
                note = "removed from the store: missing in a capsule"
            elif member.version is not None:
                note = f"the version since {quantities.moment(member.version)} UTC"
            if entry is not None and visitor.may_see(entry):
                row = overview.row_of(entry, now=now)
                title, instrument, size = row.product, row.instrument, quantities.size(entry.stored_size)
                flags = tuple(flag for flag in row.flags if flag != "pinned")  # as all of a collection
        elif member.kind == FAILURE and member.content:
            title, instrument, note = _failure_texts(member.content)
            flags = ("failed",)
        elif member.kind == LEFT_OUT:
            reason = (member.content or b"").decode("utf-8", "replace")
            note = f"its answer was not stored ({reason}): missing in a capsule"
        return MemberRow(
            key=member.key,
            title=title if row or member.kind != RECORDING else f"recording {short_key(member.key)}",
            instrument=instrument,
            source=row.source if row else "",
            position=row.position if row else "",
            time_range=row.time_range if row else "",
            flags=flags,
            note=note,
            has_page=row is not None,
            size=size,
            uses=quantities.number(member.uses),
            first=quantities.age(member.first, now),
            first_at=quantities.moment(member.first),
        )

    def _is_stored(self, member: Member, entry: Entry | None) -> bool:
        """Return whether the recording of a member is stored, or the version of it that was noted."""
        if member.version is None:
            return entry is not None
        return any(one.valid_from == member.version for one in self.proxy.store.versions(member.key))


def _row(one: Collection, *, now: float) -> CollectionRow:
    suffix = f"?{urlencode({'owner': one.owner[:_OWNER]})}" if one.owner else ""
    return CollectionRow(
        name=one.name,
        owner=one.owner[:_OWNER],
        link=f"collections/{one.name}{suffix}",
        capsule=f"collections/{one.name}/capsule.zip{suffix}",
        recordings=quantities.number(one.recordings),
        failures=quantities.number(one.failures),
        contents=", ".join(
            (
                quantities.plural(one.recordings, "recording"),
                quantities.plural(one.failures, "failure"),
                quantities.size(one.size),
            )
        ),
        size=quantities.size(one.size),
        changed=quantities.age(one.changed, now),
        changed_at=quantities.moment(one.changed),
    )


def _failure_texts(content: bytes) -> tuple[str, str, str]:
    """Return the product, the instrument and the message of a failure."""
    try:
        failure = failures.parse(content)
    except OdaProxyError as error:
        return "unknown query", "", f"cannot be read: {error}"
    product = shorten(failure.query.product_type) if failure.query else "unknown query"
    return product, shorten(failure.query.instrument) if failure.query else "", _message_of(failure.body)


def _message_of(body: Mapping[str, Any] | str) -> str:
    """Return the message for people in the answer of a failure."""
    if isinstance(body, str):
        return shorten(body, _MAX_TEXT)
    status = body.get("exit_status")
    members = status if isinstance(status, dict) else body
    texts = [members.get(name) for name in ("error_message", "message", "error")]
    return shorten(next((text for text in texts if isinstance(text, str) and text), ""), _MAX_TEXT)
