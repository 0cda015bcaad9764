"""The mock dispatcher as an aiohttp application: its routes, under any path prefix."""

from __future__ import annotations

import html
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from mock_server import answers
from mock_server.analysis import Analysis, AnalysisRequest, RefusedError
from mock_server.descriptions import UnknownProductError, meta_data
from mock_server.jobs import JobTable
from mock_server.library import Library
from mock_server.parameters import read_arguments

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mock_server.settings import MockSettings

    Handler = Callable[["MockDispatcher", web.Request], Awaitable[web.StreamResponse]]

# For whoever starts the application: catalogues and lists travel in the request line, with old clients without limit.
RUNNER_OPTIONS: Final[Mapping[str, int]] = {"max_line_size": 16 * 2**20, "max_field_size": 16 * 2**20}
BODY_LIMIT: Final = 64 * 2**20

_JSON: Final = "application/json"
_NOT_FOUND: Final = """<!doctype html>
<html lang=en>
<title>404 Not Found</title>
<h1>Not Found</h1>
<p>The requested URL was not found on the server. If you entered the URL manually please check your spelling and try \
again.</p>
"""
_SERVER_ERROR: Final = """<!doctype html>
<html lang=en>
<title>500 Internal Server Error</title>
<h1>Internal Server Error</h1>
<p>The server encountered an internal error and was unable to complete your request. Either the server is overloaded \
or there is an error in the application.</p>
"""
_FRONT_PAGE: Final = """<!DOCTYPE html>
<html>
<head><title>CDCI ODA API</title></head>
<body><h1>Mock dispatcher</h1><p>It answers from fixtures: {instruments}.</p></body>
</html>
"""


def make_app(
    settings: MockSettings,
    *,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
) -> web.Application:
    """Make the application of a mock dispatcher.

    Parameters
    ----------
    settings
        What it serves and how.
    clock
        Seconds, for the life of jobs.
    wall_clock
        Unix time, for the expiry of tokens and the time stamps of answers.

    Raises
    ------
    FixtureError
        A folder of fixtures is not as the format says.
    """
    library = Library.open(settings.folders)
    analysis = Analysis(
        settings=settings,
        library=library,
        jobs=JobTable(clock),
        wall_clock=wall_clock,
        random=random.Random(settings.seed),  # noqa: S311 - session ids of a mock, not secrets
    )
    dispatcher = MockDispatcher(settings, library, analysis)
    app = web.Application(client_max_size=BODY_LIMIT)
    app.router.add_route("*", "/{path:.*}", dispatcher.handle)
    return app


class MockDispatcher:
    """The routes of a dispatcher; each method answers one."""

    def __init__(self, settings: MockSettings, library: Library, analysis: Analysis) -> None:
        self.settings = settings
        self.library = library
        self.analysis = analysis
        self.requests: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Find the route by the end of the path, whatever stands before it."""
        route = _route(request.path)
        if route is None:
            return _html(_NOT_FOUND, 404)
        methods, handler = _ROUTES[route]
        self.requests[route] += not route.startswith("-/")
        if request.method == "OPTIONS":
            return web.Response(content_type="text/html", charset="utf-8", headers={"Allow": ", ".join(methods)})
        if request.method not in methods:
            raise web.HTTPMethodNotAllowed(request.method, methods)
        try:
            return await handler(self, request)
        except RefusedError as error:
            refused = self.analysis.refuse(error, _address(request))
            return web.Response(status=refused.status, body=refused.body, content_type=_JSON)

    async def run_analysis(self, request: web.Request) -> web.Response:
        """Run a query, or tell how far it is."""
        if request.method == "HEAD":
            return web.Response(status=400, content_type=_JSON)
        form, files = await _read_form(request)
        arguments = read_arguments(request.query.items(), form)
        self.asked[str(arguments.get("query_status"))] += 1
        answer = await self.analysis.answer(AnalysisRequest(arguments, _address(request), files))
        return web.Response(status=answer.status, body=answer.body, content_type=_JSON)

    async def api_instr_list(self, request: web.Request) -> web.Response:
        """List the instruments; today's dispatchers redirect instead, which `redirect_instr_list` asks for."""
        if self.settings.redirect_instr_list is not None:
            query = f"?{request.query_string}" if request.query_string else ""
            return _redirect(self.settings.redirect_instr_list + query)
        return await self.instr_list(request)

    async def instr_list(self, request: web.Request) -> web.Response:
        """List the instruments, for anybody without a token or with a valid one."""
        try:
            self.analysis.read_token(request.query.get("token"))
        except RefusedError as error:
            return _html(str(error), 403)
        return _json(self.library.instruments)

    async def meta_data(self, request: web.Request) -> web.Response:
        """Describe an instrument, or one product of it."""
        arguments = read_arguments(request.query.items(), ())
        self.analysis.read_token(request.query.get("token"))
        if arguments.get("instrument") == "mock":
            return _html(_SERVER_ERROR, 500)
        description = self.analysis.description(arguments)
        try:
            return _json(meta_data(description, request.query.get("product_type"), self.settings.generation))
        except UnknownProductError:
            return _html(_SERVER_ERROR, 500)

    async def par_names(self, request: web.Request) -> web.Response:
        """Name the parameters of a product, or of all products of an instrument."""
        self.analysis.read_token(request.query.get("token"))
        description = self.analysis.description(read_arguments(request.query.items(), ()))
        try:
            return _json(description.par_names(request.query.get("product_type")))
        except UnknownProductError:
            return _html(_SERVER_ERROR, 500)

    async def front_page(self, request: web.Request) -> web.Response:
        """Say what this is, to people."""
        del request
        return _html(_FRONT_PAGE.format(instruments=", ".join(self.library.instruments)))

    async def status(self, request: web.Request) -> web.Response:
        """Tell tests what happened here: jobs begun, runs of the back end, requests by route and by query_status."""
        del request
        jobs = self.analysis.jobs
        return _json(
            {
                "jobs": len(jobs.jobs),
                "runs": jobs.runs,
                "requests": dict(self.requests),
                "asked": dict(self.asked),
                "served": [fixture.path for _, fixture in self.library.index.questions],
            }
        )


_READ: Final = ("GET", "HEAD", "OPTIONS")
_READ_OR_POST: Final = ("GET", "HEAD", "POST", "OPTIONS")
_ROUTES: Final[dict[str, tuple[tuple[str, ...], Handler]]] = {
    "run_analysis": (_READ_OR_POST, MockDispatcher.run_analysis),
    "api/instr-list": (_READ, MockDispatcher.api_instr_list),
    "instr-list": (_READ, MockDispatcher.instr_list),
    "api/meta-data": (_READ, MockDispatcher.meta_data),
    "meta-data": (_READ, MockDispatcher.meta_data),
    "api/par-names": (_READ, MockDispatcher.par_names),
    "-/status": (_READ, MockDispatcher.status),
    "": (_READ, MockDispatcher.front_page),
}


def _route(path: str) -> str | None:
    if path == "/":
        return ""
    matching = [route for route in _ROUTES if route and path.endswith(f"/{route}")]
    return max(matching, key=len, default=None)


def _address(request: web.Request) -> str:
    return f"{request.scheme}://{request.host}"


async def _read_form(request: web.Request) -> tuple[list[tuple[str, str]], dict[str, bytes]]:
    fields: list[tuple[str, str]] = []
    files: dict[str, bytes] = {}
    if request.method == "POST":
        for name, value in (await request.post()).items():
            if isinstance(value, web.FileField):
                files[name] = value.file.read()
            elif isinstance(value, str):
                fields.append((name, value))
    return fields, files


def _json(value: Any) -> web.Response:
    return web.Response(body=answers.compact(value) + b"\n", content_type=_JSON)


def _html(text: str, status: int = 200) -> web.Response:
    return web.Response(status=status, text=text, content_type="text/html")


def _redirect(location: str) -> web.Response:
    shown = html.escape(location)
    text = (
        "<!doctype html>\n<html lang=en>\n<title>Redirecting...</title>\n<h1>Redirecting...</h1>\n"
        f'<p>You should be redirected automatically to the target URL: <a href="{shown}">{shown}</a>. '
        "If not, click the link.\n"
    )
    return web.Response(status=302, text=text, content_type="text/html", headers={"Location": location})
