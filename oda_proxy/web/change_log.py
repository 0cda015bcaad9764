"""The account of what visitors of the own routes change, in the log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from aiohttp import web

from oda_proxy.access.roles import Role
from oda_proxy.query.cache_key import short_key
from oda_proxy.web.log_thread import log_event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from oda_proxy.access.visitor import Visitor

_log = logging.getLogger(__name__)

MAX_KEYS: Final = 100
"""Keys in one line of the log."""
_SHOWN: Final = 3
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
    text = f"{summary}{f' ({shown})' if shown else ''}: {status}, for {who} at {visitor.address}"
    log_event(
        _log,
        "change",
        text,
        action=summary,
        status=status,
        client=visitor.address,
        number=len(keys),
        keys=keys[:MAX_KEYS],
    )
