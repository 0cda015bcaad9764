"""The page that stops a running job, after a confirmation."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from oda_proxy.access.roles import Action
from oda_proxy.errors import OdaProxyError
from oda_proxy.jobs.stopping import StoppableJob
from oda_proxy.pages import rendering
from oda_proxy.web.change_log import note_changed
from oda_proxy.web.own_routes import OwnRoute

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oda_proxy.jobs.running_job import RunningJob
    from oda_proxy.proxy import Proxy

PATH: Final = "/-/jobs/{key:[0-9a-f]{64}}/stop"


class NoJobError(OdaProxyError):
    """No job runs for a key."""

    http_status = 404
    detail = "no-job"

    def __init__(self, key: str) -> None:
        super().__init__(f"no job runs for the key {key}: it has ended")


def routes(proxy: Proxy) -> Sequence[OwnRoute]:
    """Return the routes of the page."""

    async def confirm(request: web.Request) -> web.Response:
        running = _running(proxy, request)
        query, private = running.resolved.query, running.client.envelope.token is not None
        text = rendering.render(
            "stop_job.html",
            rendering.root_of(request.rel_url.raw_path),
            current="Jobs",
            **rendering.header_of(request),
            what="a private query" if private else f"{query.product_type} ({query.instrument})",
            clients=running.sessions,
        )
        return rendering.page(text)

    async def stop(request: web.Request) -> web.Response:
        running = _running(proxy, request)
        note_changed(request, [running.resolved.key])
        await proxy.jobs.stopper.stop(StoppableJob(running.resolved.key, running), "the administrator")
        headers = {"Location": "../../jobs", "Cache-Control": "no-store"}
        return web.Response(status=HTTPStatus.SEE_OTHER, headers=headers)

    return (
        OwnRoute("GET", PATH, Action.STOP_JOB, confirm, "a page that asks whether to stop a running job"),
        OwnRoute("POST", PATH, Action.STOP_JOB, stop, "stop a running job, for the page"),
    )


def _running(proxy: Proxy, request: web.Request) -> RunningJob:
    """Return the running job that a request names. Raises NoJobError."""
    key = request.match_info["key"]
    for running in proxy.jobs:
        if running.resolved.key == key:
            return running
    raise NoJobError(key)
