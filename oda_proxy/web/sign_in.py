"""Signing in and out of browsers: a cookie shows what a token has shown before, and is not the token."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from aiohttp import web

from oda_proxy.access.authentication import NotAuthenticatedError
from oda_proxy.access.roles import Action
from oda_proxy.access.sessions import LIFETIME
from oda_proxy.errors import BadQueryError
from oda_proxy.web.front_end import public_url
from oda_proxy.web.own_routes import COOKIE, SIGN_IN, OwnRoute, prefers_html
from oda_proxy.web.sign_in_form import sign_in_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oda_proxy.access.authentication import Authentication

MAX_FORM: Final = 32 * 1024
"""Bytes of the form: a token, and where to go on."""
_REFUSED: Final = "The token is not one of this server, and the dispatcher has not accepted it as that of a person."
_TARGET: Final = re.compile(r"(?!/)(?:[\w.~%=&+?,-]|/(?!/)){0,2000}", re.ASCII)
"""A relative URL, which cannot lead to another site."""


def routes(authentication: Authentication) -> Sequence[OwnRoute]:
    """Return the routes for browsers to sign in and out."""

    async def form(request: web.Request) -> web.Response:
        problem = _REFUSED if "refused" in request.query else ""
        return sign_in_page(HTTPStatus.OK, problem, action="sign-in", target=_target(request.query.get("next", "")))

    async def sign_in(request: web.Request) -> web.StreamResponse:
        fields = await _fields(request)
        target = _target(fields.get("next", ""))
        try:
            session = await authentication.sign_in(fields.get("token", ""))
        except NotAuthenticatedError:
            if not prefers_html(request):
                raise
            # A page in response to a POST would send the token again when it is loaded again (RFC 9110, 15.4.4).
            return _redirect(f"sign-in?{urlencode({'refused': '', 'next': target})}")
        return _with_cookie(request, _redirect(target), session, max_age=int(LIFETIME))

    async def sign_out(request: web.Request) -> web.StreamResponse:
        if cookie := request.cookies.get(COOKIE):
            authentication.sign_out(cookie)
        return _with_cookie(request, _redirect(""), "", max_age=0)

    return (
        OwnRoute("GET", SIGN_IN, Action.SIGN_IN, form, "the form to sign in", is_html=True),
        OwnRoute("POST", SIGN_IN, Action.SIGN_IN, sign_in, "sign in with a token, for the session of a browser"),
        OwnRoute("POST", "/-/sign-out", Action.SIGN_IN, sign_out, "end the session of a browser"),
    )


async def _fields(request: web.Request) -> dict[str, str]:
    """Return the fields of the form. Raises BadQueryError."""
    if request.content_type != "application/x-www-form-urlencoded" or not 0 < (request.content_length or 0) <= MAX_FORM:
        raise BadQueryError("sign in with a form of the fields token and next")
    return {name: value for name, value in (await request.post()).items() if isinstance(value, str)}


def _target(text: str) -> str:
    """Return where to go on, relative to `/-/`; the overview where that would lead elsewhere."""
    return text if _TARGET.fullmatch(text) and ".." not in text.split("/") else ""


def _redirect(target: str) -> web.Response:
    return web.Response(
        status=HTTPStatus.SEE_OTHER, headers={"Location": f"./{target}", "Cache-Control": "no-store"}, text="\n"
    )


def _with_cookie(request: web.Request, response: web.Response, session: str, *, max_age: int) -> web.Response:
    """Return a response that sets the session of a browser, for `max_age` s."""
    response.set_cookie(
        COOKIE,
        session,
        path="",  # no attribute: the folder of this page, under whatever prefix the browser sees it
        max_age=max_age,
        secure=public_url(request).startswith("https:"),
        httponly=True,
        samesite="Strict",
    )
    return response
