"""The page `/-/jobs`: the running jobs, which can be stopped."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from oda_proxy.jobs.running_job import RunningJob
    from oda_proxy.proxy import Proxy

_HEADERS = {"Cache-Control": "no-store"}
SESSION_HEADER = "Oda-Session"
"""Request header with the session of a client that stops a job of its own."""


def add_to(app: web.Application, proxy: Proxy, admin_token: str | None) -> None:
    """Add the page to an application."""

    async def jobs(_: web.Request) -> web.Response:
        return _json({"jobs": [_job(proxy, running) for running in proxy.jobs]})

    async def stop(request: web.Request) -> web.Response:
        key, session_id = request.match_info["key"], request.headers.get(SESSION_HEADER, "")
        found = [running for running in proxy.jobs if running.resolved.key.startswith(key)]
        is_admin = _is_admin(request, admin_token)
        if not is_admin:
            found = [running for running in found if running.is_owned_alone_by(session_id)]
            if not found:
                return _refusal(request, admin_token)
        if len(found) != 1:
            text = f"{len(found)} running jobs have a key that begins with {key[:64]!r}; /-/jobs lists them\n"
            return web.Response(status=404, text=text, headers=_HEADERS)
        (running,) = found
        await proxy.jobs.stop(running, "the administrator" if is_admin else "its client")
        return _json({"stopped": running.resolved.key})

    app.router.add_get("/-/jobs", jobs)
    app.router.add_delete("/-/jobs/{key:[0-9a-f]{1,64}}", stop)


def _is_admin(request: web.Request, admin_token: str | None) -> bool:
    """Return whether a request has the administration token (RFC 6750, section 2.1)."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if admin_token is None or scheme.casefold() != "bearer":
        return False
    sent, expected = (text.strip().encode("utf-8", "surrogateescape") for text in (token, admin_token))
    return hmac.compare_digest(sent, expected)


def _refusal(request: web.Request, admin_token: str | None) -> web.Response:
    if not admin_token:
        hint = "; this proxy has no such token: start it with --admin-token"
    else:
        hint = "; the Authorization of this request is not that token" if "Authorization" in request.headers else ""
    text = f"to stop a job, send the administration token, or the session of its only client{hint}\n"
    return web.Response(status=401, text=text, headers={**_HEADERS, "WWW-Authenticate": "Bearer"})


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
        "remark": "" if private else proxy.jobs.comment_on(running, running.client),
    }
