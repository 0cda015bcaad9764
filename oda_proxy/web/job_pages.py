"""The page `/-/jobs`: the running jobs, which can be stopped."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from oda_proxy.access.authentication import NotAuthenticatedError
from oda_proxy.access.roles import Action
from oda_proxy.web.change_log import note_changed
from oda_proxy.web.own_routes import VISITOR, OwnRoute
from oda_proxy.web.problems import problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oda_proxy.jobs.running_job import RunningJob
    from oda_proxy.proxy import Proxy

_HEADERS = {"Cache-Control": "no-store"}
SESSION_HEADER = "Oda-Session"
"""Request header with the session of a client that stops a job of its own."""


def routes(proxy: Proxy) -> Sequence[OwnRoute]:
    """Return the routes of the page."""

    async def jobs(_: web.Request) -> web.Response:
        return _json({"jobs": [_job(proxy, running) for running in proxy.jobs]})

    async def stop(request: web.Request) -> web.Response:
        key, session_id = request.match_info["key"], request.headers.get(SESSION_HEADER, "")
        is_admin = request[VISITOR].may(Action.STOP_JOB)
        found = await proxy.jobs.stopper.find(key, None if is_admin else session_id)
        if not found and not is_admin:
            raise NotAuthenticatedError(
                "to stop a job, send the administration token (Authorization: Bearer TOKEN), or the session of its "
                f"only client ({SESSION_HEADER}: SESSION); a server has such a token with --admin-token-file"
            )
        if len(found) != 1:
            detail = f"{len(found)} running jobs have a key that begins with {key!r}; /-/jobs lists them"
            return problem(HTTPStatus.NOT_FOUND, detail)
        (job,) = found
        note_changed(request, [job.key])
        await proxy.jobs.stopper.stop(job, "the administrator" if is_admin else "its client")
        return _json({"stopped": job.key})

    return (
        OwnRoute("GET", "/-/jobs", Action.READ_JOBS, jobs, "the running jobs"),
        OwnRoute("DELETE", "/-/jobs/{key:[0-9a-f]{1,64}}", Action.STOP_OWN_JOB, stop, "stop a running job"),
    )


def _json(members: dict[str, Any]) -> web.Response:
    return web.json_response(text=f"{json.dumps(members)}\n", headers=_HEADERS)


def _job(proxy: Proxy, running: RunningJob) -> dict[str, Any]:
    """Return the state of a job; of one that was submitted with a token, not its query."""
    query, private = running.resolved.query, running.client.envelope.token is not None
    return {
        "key": running.resolved.key,
        "instrument": None if private else query.instrument,
        "product_type": None if private else query.product_type,
        "state": "queued" if running.is_queued else running.job.state,
        "begun": running.job.started_at,
        "sessions": running.sessions,
        "polls": running.polls,
        "watched": running.is_watched,
        "followed": running.is_elsewhere,
        "remark": "" if private else proxy.jobs.comment_on(running, running.client),
    }
