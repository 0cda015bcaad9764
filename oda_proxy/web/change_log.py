"""The account of what visitors of the own routes change, in the log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from oda_proxy.access.authentication import NotAllowedError, NotAuthenticatedError
from oda_proxy.access.hosts import WrongHostError
from oda_proxy.access.roles import Role
from oda_proxy.http.cross_site import CrossSiteError
from oda_proxy.query.cache_key import short_key
from oda_proxy.web.front_end import ADDRESSES, client_address
from oda_proxy.web.log_thread import log_event
from oda_proxy.web.place import PLACE
from oda_proxy.web.request_log import REQUEST_ID, REQUEST_IDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from oda_proxy.access.visitor import Visitor
    from oda_proxy.errors import OdaProxyError

_log = logging.getLogger(__name__)

MAX_KEYS: Final = 100
"""Keys in one line of the log."""
_SHOWN: Final = 3
_REFUSED: Final = (NotAllowedError, NotAuthenticatedError, CrossSiteError, WrongHostError)
_CHANGED = web.RequestKey("changed", list)
"""The keys of the recordings or the job that a request has changed."""


def note_changed(request: web.Request, keys: Iterable[str]) -> None:
    """Note which recordings, or which job, a request has changed."""
    request[_CHANGED] = [str(key) for key in keys]


def log_change(request: web.Request, summary: str, visitor: Visitor, status: int) -> None:
    """Log a change of a visitor: `summary` is what the route does, `status` that of the response."""
    keys = request.get(_CHANGED, [request.match_info[name] for name in ("key",) if name in request.match_info])
    if not keys:  # a dry run, or nothing to do
        return
    who = "the administrator" if Role.ADMIN in visitor.roles else "a client"
    shown = ", ".join(map(short_key, keys[:_SHOWN])) + (f" and {len(keys) - _SHOWN} others" if keys[_SHOWN:] else "")
    upstream = _upstream_of(request)
    where = f" of the upstream {upstream}" if upstream else ""
    names: dict[str, Any] = {"upstream": upstream} if upstream else {}
    text = f"{summary}{f' ({shown})' if shown else ''}{where}: {status}, for {who} at {visitor.address}"
    log_event(
        _log,
        "change",
        text,
        request_id=_id_of(request),
        action=summary,
        status=status,
        client=visitor.address,
        number=len(keys),
        keys=keys[:MAX_KEYS],
        **names,
    )


def log_refusal(request: web.Request, summary: str, error: OdaProxyError) -> None:
    """Log that a visitor may not make a change; `summary` is what the route does."""
    if not isinstance(error, _REFUSED):
        return
    address = client_address(request)
    log_event(
        _log,
        "refusal",
        f"refused to {summary}: {error.http_status}, for a client at {address}",
        level=logging.WARNING,
        request_id=_id_of(request),
        action=summary,
        status=error.http_status,
        client=address,
    )


def _upstream_of(request: web.Request) -> str:
    """Return the name of the upstream of a request; an empty text where there is only one."""
    place = request.app.get(PLACE)
    return place.own.name if place else ""


def _id_of(request: web.Request) -> str:
    """Return the id of a request, which its response gets, too."""
    if REQUEST_ID not in request:
        request[REQUEST_ID] = request.app[ADDRESSES].request_id(request) or request.app[REQUEST_IDS].new()
    return request[REQUEST_ID]
