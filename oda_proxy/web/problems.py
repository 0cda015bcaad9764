"""Errors of the proxy's own routes as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.errors import OdaProxyError

CONTENT_TYPE = "application/problem+json"


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an error; `detail` is what was wrong and what to do, in one line."""
    members = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return web.Response(
        status=status,
        text=f"{json.dumps(members)}\n",
        content_type=CONTENT_TYPE,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def problem_of(error: OdaProxyError) -> web.Response:
    """Return the problem of an error that was raised."""
    return problem(error.http_status, str(error))
