"""The form with which a person signs in, for visitors whose token is missing."""

from __future__ import annotations

from html import escape
from string import Template
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of the form: it loads nothing from elsewhere, is in no frame, and its address goes to no other site."""

_PAGE: Final = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Sign in - oda-proxy</title>
<link rel="stylesheet" href="${root}static/pages.css">
<link rel="icon" href="${root}static/icon.svg" type="image/svg+xml">
</head>
<body>
<header class="site"><a class="brand" href="$home">oda-proxy</a></header>
<main class="narrow sign-in">
<h1>Sign in</h1>
$problem<form method="post" action="$action">
<label for="token">Token <small>of the administrator, of the readers, or your own of the dispatcher</small></label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<input name="next" type="hidden" value="$next">
<button>Sign in</button>
</form>
</main>
</body>
</html>
""")


def sign_in_page(
    status: int, problem: str, *, action: str, target: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return the form.

    `problem` says why it is needed, or is empty; `action` is the URL of the route that signs in, relative to that of
    the request; `target` is where the person goes on afterwards, relative to the action.
    """
    root = action.rpartition("/")[0] + "/" if "/" in action else ""
    text = _PAGE.substitute(
        root=escape(root),
        home=escape(root or "./"),
        problem=f'<p class="notice bad">{escape(problem)}</p>\n' if problem else "",
        action=escape(action),
        next=escape(target),
    )
    return web.Response(status=status, text=text, content_type="text/html", headers={**HEADERS, **(headers or {})})
