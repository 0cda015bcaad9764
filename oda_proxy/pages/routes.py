"""The routes of the pages."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from oda_proxy._version import __version__
from oda_proxy.access.roles import Action, Role
from oda_proxy.drawing.paste_lines import paste_lines
from oda_proxy.errors import OdaProxyError, StoreUnusableError
from oda_proxy.pages import (
    activity,
    changes,
    job_stop,
    overview,
    product_views,
    quantities,
    recording_page,
    rendering,
    status_page,
)
from oda_proxy.pages.collection_pages import CollectionPages
from oda_proxy.pages.search_form import PAGE_SIZE, read_form
from oda_proxy.store.search import Found
from oda_proxy.upstream.throttling import ThrottledUpstream
from oda_proxy.web.front_end import public_url
from oda_proxy.web.own_routes import VISITOR, OwnRoute
from oda_proxy.web.visible_collections import visible_names
from oda_proxy.web.visible_recordings import KEY_PATTERN, RecordingNotFoundError, visible_entry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from oda_proxy.access.visitor import Visitor
    from oda_proxy.pages.activity import JobRow
    from oda_proxy.pages.product_views import ProductView
    from oda_proxy.pages.search_form import SearchForm
    from oda_proxy.proxy import Proxy
    from oda_proxy.query.schema import Schema
    from oda_proxy.store.base import Entry, ProductTotals
    from oda_proxy.store.collections import Collections
    from oda_proxy.store.near_misses import NearMissHandler
    from oda_proxy.web.metrics_page import GetSnapshot
    from oda_proxy.web.pages import Status

PATIENCE: Final = 20.0
"""Seconds that a page waits for the products of its recording to be listed."""
MISSES_SHOWN: Final = 3
"""Near misses on the overview."""


@dataclass(frozen=True, slots=True)
class Pages:
    """What the pages show, and where it comes from.

    `status` returns the members of `/-/status`, `metrics` those of `/-/metrics`, `summaries` those of the products of a
    recording (`drawing.summaries`). `dispatcher` is the address of the dispatcher whose answers are stored, `max_size`
    the limit of the store in bytes; `clock` returns s since 1970 (UTC).
    """

    proxy: Proxy
    near_misses: NearMissHandler | None
    status: Status
    metrics: GetSnapshot
    summaries: Callable[[Entry], Awaitable[Sequence[Mapping[str, Any]]]]
    dispatcher: str
    max_size: int | None = None
    clock: Callable[[], float] = time.time

    def routes(self) -> Sequence[OwnRoute]:
        """Return the routes."""
        read = Action.READ_RECORDINGS
        return (
            OwnRoute("GET", "/-/", read, self.overview, "what is stored, what runs, and how the server does: a page"),
            OwnRoute("GET", f"/-/recordings/{KEY_PATTERN}", read, self.recording, "a recording: a page"),
            OwnRoute("GET", "/-/jobs", Action.READ_JOBS, self.jobs, "the running jobs, as a page", is_html=True),
            OwnRoute("GET", "/-/near-misses", read, self.misses, "the near misses, as a page", is_html=True),
            OwnRoute("GET", "/-/status", Action.READ_STATUS, self.server, "the status, as a page", is_html=True),
            *(
                OwnRoute("GET", f"/-/static/{name}", Action.ALIVE, partial(_static, name), "a file that pages use")
                for name in rendering.STATIC
            ),
            *job_stop.routes(self.proxy),
            *changes.routes(self.proxy.store, changes.changes_of(self.proxy)),
            *(CollectionPages(self.proxy, index, self.clock).routes() if (index := self._collections) else ()),
        )

    @property
    def _collections(self) -> Collections | None:
        return self.proxy.collections.index

    async def overview(self, request: web.Request) -> web.Response:
        """Respond with the overview."""
        visitor, now = request[VISITOR], self.clock()
        form = read_form(request.query, now=now)
        sees_jobs = visitor.may(Action.READ_JOBS)
        misses = self.near_misses.misses[:MISSES_SHOWN] if self.near_misses else ()
        values: dict[str, Any] = {
            "current": "Recordings",
            **rendering.header_of(request),
            "notice": changes.notice_of(request),
            "health": self._health(),
            "sees_jobs": sees_jobs,
            "may_stop": visitor.may(Action.STOP_JOB),
            "jobs": self._job_rows(now) if sees_jobs else [],
            "waiting": self._waiting(),
            "misses": activity.miss_rows(misses, now=now),
            "public_url": public_url(request),
        }
        status, snapshot = await self.status(), await self.metrics()

        def build() -> str:
            found, totals = self._find(form, visitor)
            visible = [one for one in totals if _sees_all(visitor) or not one.private]
            return rendering.render(
                "overview.html",
                _root(request),
                figures=overview.figures(
                    status.get("store") or {}, visible, overview.savings_of(snapshot), max_size=self.max_size
                ),
                list=overview.recording_list(form, found, visible, now=now),
                faults=activity.fault_texts(self.proxy.store_faults),
                **values,
            )

        return rendering.page(await asyncio.to_thread(build))

    async def recording(self, request: web.Request) -> web.Response:
        """Respond with the page of a recording; raises RecordingNotFoundError."""
        visitor, now, key = request[VISITOR], self.clock(), request.match_info["key"]
        entry = await asyncio.to_thread(visible_entry, self.proxy.store, visitor, key)
        products, note = await self._products(entry)

        def build() -> str:
            recording = self.proxy.store.peek(entry.key)
            if recording is None:
                raise RecordingNotFoundError(key, 0)
            with closing(recording.head):
                view = recording_page.view_of(
                    entry,
                    schema=self._schema(entry),
                    timeline=recording.timeline,
                    exit_status=recording.exit_status,
                    other_members=recording.other_members,
                    dispatcher=self.dispatcher,
                    version=__version__,
                    now=now,
                )
            return rendering.render(
                "recording.html",
                _root(request),
                current="",
                **rendering.header_of(request),
                notice=changes.notice_of(request),
                recording=view,
                collections=visible_names(index, visitor, entry.key) if (index := self._collections) else (),
                versions=recording_page.version_rows(self.proxy.store.versions(entry.key)),
                products=products,
                products_note=note,
                server_url=public_url(request),
                code=paste_lines(entry.query, public_url(request)) if entry.query else "",
                downloads=product_views.ARCHIVES if products else [],
                may_change=visitor.may(Action.CHANGE),
                can_refresh=self.proxy.upstream is not None and not entry.private,
            )

        return rendering.page(await asyncio.to_thread(build))

    async def jobs(self, request: web.Request) -> web.Response:
        """Respond with the page of the running jobs."""
        jobs = self._job_rows(self.clock())
        return rendering.page(
            rendering.render(
                "jobs.html",
                _root(request),
                current="Jobs",
                **rendering.header_of(request),
                jobs=jobs,
                may_stop=request[VISITOR].may(Action.STOP_JOB),
                waiting=self._waiting(),
            )
        )

    async def misses(self, request: web.Request) -> web.Response:
        """Respond with the page of near misses."""
        rows = activity.miss_rows(self.near_misses.misses if self.near_misses else (), now=self.clock())
        is_offline = self.proxy.upstream is None
        return rendering.page(
            rendering.render(
                "near_misses.html",
                _root(request),
                current="Near misses",
                **rendering.header_of(request),
                misses=rows,
                is_offline=is_offline,
            )
        )

    async def server(self, request: web.Request) -> web.Response:
        """Respond with the page of the status."""
        groups = status_page.groups_of(await self.status())
        return rendering.page(
            rendering.render(
                "status.html",
                _root(request),
                current="Status",
                **rendering.header_of(request),
                groups=groups,
                health=self._health(),
                faults=activity.fault_texts(self.proxy.store_faults),
            )
        )

    def _schema(self, entry: Entry) -> Schema | None:
        """Return the newest known description of the instrument of a recording."""
        if entry.query is None:
            return None
        return next(iter(self.proxy.persons.stored_schemas(entry.query.instrument)), None)

    async def _products(self, entry: Entry) -> tuple[Sequence[ProductView], str]:
        """Return the products of a recording, and why there are none."""
        try:
            async with asyncio.timeout(PATIENCE):
                products = product_views.views_of(await self.summaries(entry))
        except TimeoutError:
            return [], "The products are still being read: load this page again in a while."
        except OdaProxyError as error:
            return [], f"The products cannot be shown: {error}"
        return products, "" if products else "This answer has no products."

    def _find(self, form: SearchForm, visitor: Visitor) -> tuple[Found, list[ProductTotals]]:
        """Search the store, and return the totals of its products; nothing where it fails, which the page shows."""
        search = replace(
            form.search,
            sees_all=_sees_all(visitor),
            may_see=None if visitor.audience is None else visitor.may_see,
        )
        try:
            found = self.proxy.store.search(search, offset=form.offset, limit=PAGE_SIZE)
            totals = self.proxy.store.totals()
        except StoreUnusableError as error:
            self.proxy.store_faults.note_failure("listed", error)
            return Found((), 0), []
        self.proxy.store_faults.note_success("listed")
        return found, totals

    def _health(self) -> activity.Health:
        upstream = self.proxy.upstream
        health = upstream.health if isinstance(upstream, ThrottledUpstream) else None
        return activity.health_of(upstream.url if upstream else None, health)

    def _job_rows(self, now: float) -> list[JobRow]:
        """Return the rows of the running jobs; the queries of those with a token are left out."""
        jobs, rows = self.proxy.jobs, []
        for running in jobs:
            is_visible = running.client.envelope.token is None
            estimate = jobs.estimates.estimate(running.resolved.query) if is_visible else None
            remark = jobs.comment_on(running, running.client) if is_visible else ""
            rows.append(activity.job_row(running, estimate, remark, now=now, is_visible=is_visible))
        return rows

    def _waiting(self) -> str:
        """Return how many clients wait for jobs, as text."""
        running = list(self.proxy.jobs)
        clients = sum(one.sessions for one in running if one.is_watched)
        queued = sum(one.is_queued for one in running)
        parts = [f"{quantities.plural(clients, 'client')} waiting"] if running else []
        parts += [f"{quantities.plural(queued, 'job')} for a place"] if queued else []
        return ", ".join(parts)


def _sees_all(visitor: Visitor) -> bool:
    return Role.ADMIN in visitor.roles


def _root(request: web.Request) -> str:
    return rendering.root_of(request.rel_url.raw_path)


async def _static(name: str, _: web.Request) -> web.Response:
    headers = {"Cache-Control": "max-age=86400", "X-Content-Type-Options": "nosniff"}
    return web.Response(
        body=rendering.static_file(name), content_type=rendering.STATIC[name], charset="utf-8", headers=headers
    )
