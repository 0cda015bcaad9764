"""The mock dispatcher as an aiohttp application: its routes, under any path prefix."""

from __future__ import annotations

import asyncio
import hashlib
import html
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from aiohttp import web

from mock_server import answers
from mock_server.analysis import Analysis, AnalysisRequest
from mock_server.asking import Reception, RefusedError, ServiceClosedError, expired_token
from mock_server.descriptions import UnknownProductError, meta_data, source_meta_data
from mock_server.faults import answer_with_fault
from mock_server.job_routes import JobRoutes, NoFileError
from mock_server.jobs import JobTable
from mock_server.library import Library
from mock_server.parameters import read_arguments
from mock_server.scenarios import FaultPlan, find_scenario, read_faults

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mock_server.descriptions import Description
    from mock_server.settings import MockSettings

    Handler = Callable[["MockDispatcher", "Incoming"], Awaitable[web.Response]]

# For whoever starts the application: catalogues and lists travel in the request line, with old clients without limit.
RUNNER_OPTIONS: Final[Mapping[str, Any]] = {"max_line_size": 16 * 2**20, "max_field_size": 16 * 2**20}
BODY_LIMIT: Final = 64 * 2**20

_UPLOADED: Final = "from_request_files_dir=True&download_file=True&download_products=False"
_OWN_PAGES: Final = "-/"
_JSON: Final = "application/json"
_NOT_FOUND: Final = """<!doctype html>
<html lang=en>
<title>404 Not Found</title>
<h1>Not Found</h1>
<p>The requested URL was not found on the server. If you entered the URL manually please check your spelling and try \
again.</p>
"""
_NOT_ALLOWED: Final = """<!doctype html>
<html lang=en>
<title>405 Method Not Allowed</title>
<h1>Method Not Allowed</h1>
<p>The method is not allowed for the requested URL.</p>
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
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
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
    sleep
        Waits for a number of seconds, for the pauses of faults.

    Raises
    ------
    FixtureError
        A folder of fixtures is not as the format says.
    UsageError
        There is no such scenario, or a file of scenarios or a fault is not as its format says.
    """
    library = Library.open(settings.folders, settings.seed if settings.synthetic else None)
    scenario = find_scenario(settings.scenario, settings.scenario_files)
    sessions, chances = (random.Random(settings.seed) for _ in range(2))  # noqa: S311 - nothing of a mock is a secret
    reception = Reception(settings, library, wall_clock, sessions)
    jobs = JobTable(clock)
    dispatcher = MockDispatcher(
        settings=settings,
        library=library,
        analysis=Analysis(settings, scenario, library, jobs, reception),
        job_routes=JobRoutes(jobs, reception),
        faults=FaultPlan((*scenario.faults, *read_faults(settings.faults)), chances),
        sleep=sleep,
    )
    app = web.Application(client_max_size=BODY_LIMIT)
    app.router.add_route("*", "/{path:.*}", dispatcher.handle)
    return app


@dataclass(frozen=True)
class Incoming:
    """A request, read: its query string as it came, and all arguments as the dispatcher reads them."""

    query: Mapping[str, str]
    query_string: str
    arguments: Mapping[str, Any]
    files: Mapping[str, bytes]
    products_url: str


@dataclass
class MockDispatcher:
    """The routes of a dispatcher; each method but `handle` answers one."""

    settings: MockSettings
    library: Library
    analysis: Analysis
    job_routes: JobRoutes
    faults: FaultPlan
    sleep: Callable[[float], Awaitable[None]]
    requests: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Find the route by the end of the path, whatever stands before it, and answer as the scenario has it."""
        route = _route(request.path)
        if route is None:
            return _html(_NOT_FOUND, 404)
        methods, handler = _ROUTES[route]
        instead = _without_arguments(request, methods)
        if instead is not None:
            return instead
        form, files = await _read_form(request)
        query = () if request.method == "HEAD" else request.query.items()  # which HEAD does not have there
        incoming = Incoming(
            query=request.query,
            query_string=request.query_string,
            arguments=read_arguments(query, form),
            files=files,
            products_url=self.settings.products_url or f"{request.scheme}://{request.host}/",
        )
        asked = str(incoming.arguments.get("query_status", ""))
        if not route.startswith(_OWN_PAGES):
            self.requests[route] += 1
            if asked:
                self.asked[asked] += 1
        fault = self.faults.next(route, request.method, asked)
        if fault is None:
            return await self._answer(handler, incoming)
        if fault.do == "expire-token":
            return await self._answer(handler, incoming, token_expired="token" in incoming.arguments)
        job_id = str(incoming.arguments.get("job_id", ""))
        return await answer_with_fault(fault, request, job_id, lambda: self._answer(handler, incoming), self.sleep)

    async def _answer(self, handler: Handler, incoming: Incoming, *, token_expired: bool = False) -> web.Response:
        try:
            if token_expired:
                raise expired_token()
            return await handler(self, incoming)
        except ServiceClosedError as error:
            return _html(str(error), error.http_status)
        except UnknownProductError:  # the dispatcher falls over it where it only describes
            return _html(_SERVER_ERROR, 500)
        except RefusedError as error:
            body = answers.refusal(
                error.kind,
                str(error),
                instruments=self.library.instruments,
                products_url=incoming.products_url,
                debug_message=error.debug_message,
            )
            return web.Response(status=error.status, body=body, content_type=_JSON)

    async def run_analysis(self, incoming: Incoming) -> web.Response:
        """Run a query, or tell how far it is."""
        request = AnalysisRequest(incoming.arguments, incoming.products_url, incoming.files)
        answer = await self.analysis.answer(request)
        return web.Response(status=answer.status, body=answer.body, content_type=_JSON)

    async def api_instr_list(self, incoming: Incoming) -> web.Response:
        """List the instruments; today's dispatchers redirect instead, which `redirect_instr_list` asks for."""
        if self.settings.redirect_instr_list is not None:
            return _redirect(self.settings.redirect_instr_list, incoming.query_string)
        return await self.instr_list(incoming)

    async def instr_list(self, incoming: Incoming) -> web.Response:
        """List the instruments, for anybody without a token or with a valid one."""
        self.analysis.reception.service_token(incoming.query.get("token"))
        return _json(self.library.instruments)

    async def meta_data(self, incoming: Incoming) -> web.Response:
        """Describe an instrument, or one product of it."""
        description = self._described(incoming)
        return _json(meta_data(description, incoming.query.get("product_type"), self.settings.generation))

    async def par_names(self, incoming: Incoming) -> web.Response:
        """Name the parameters of a product, or of all products of an instrument."""
        description = self._described(incoming)
        return _json(description.par_names(incoming.query.get("product_type")))

    async def meta_data_src(self, incoming: Incoming) -> web.Response:
        """Describe the parameters of a source."""
        return _json(source_meta_data(self._described(incoming), self.settings.generation))

    def _described(self, incoming: Incoming) -> Description:
        """Return the description that is asked for; raises RefusedError, or UnknownProductError for what is none."""
        self.analysis.reception.token(incoming.query.get("token"), is_description=True)
        if incoming.query.get("instrument") == "mock":
            raise UnknownProductError("mock", {})  # the default of clients; the dispatcher falls over it
        return self.analysis.reception.description(incoming.arguments)

    async def download_products(self, incoming: Incoming) -> web.Response:
        """Give files of a job to the session that began it."""
        try:
            name, content, is_packed = await self.job_routes.files(incoming.arguments)
        except NoFileError as error:
            return web.Response(status=error.http_status, body=error.body, content_type=_JSON)
        headers = {
            "Content-Disposition": f"attachment; filename={quote(name)}",
            "Cache-Control": "no-cache",
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
        }
        kind = "application/x-gzip-compressed" if is_packed else "application/octet-stream"
        return web.Response(body=content, content_type=kind, headers=headers)

    async def download_file(self, incoming: Incoming) -> web.Response:
        """Redirect to where uploaded files can be had."""
        query = f"{incoming.query_string}&{_UPLOADED}"
        return _redirect(f"{incoming.products_url}dispatch-data/download_products", query)

    async def resolve_job_url(self, incoming: Incoming) -> web.Response:
        """Redirect to the page of a job."""
        return _redirect(self.job_routes.link(incoming.query, incoming.products_url))

    async def inspect_state(self, incoming: Incoming) -> web.Response:
        """List jobs, for whose token has the role."""
        return _json(self.job_routes.records(incoming.query))

    async def call_back(self, incoming: Incoming) -> web.Response:
        """Take the report of a back end."""
        return _json(self.job_routes.call_back(incoming.query))

    async def front_page(self, incoming: Incoming) -> web.Response:
        """Say what this is, to people."""
        del incoming
        return _html(_FRONT_PAGE.format(instruments=", ".join(self.library.instruments)))

    async def status(self, incoming: Incoming) -> web.Response:
        """Tell tests what happened: jobs, runs of queries, requests by route and query_status, fixtures served."""
        del incoming
        jobs = self.analysis.jobs
        return _json(
            {
                "jobs": len(jobs.jobs),
                "runs": jobs.runs,
                "requests": dict(self.requests),
                "asked": dict(self.asked),
                "served": dict(self.analysis.served),
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
    "meta-data-src": (_READ, MockDispatcher.meta_data_src),
    "api/par-names": (_READ, MockDispatcher.par_names),
    "download_products": (_READ_OR_POST, MockDispatcher.download_products),
    "download_file": (_READ, MockDispatcher.download_file),
    "resolve-job-url": (_READ, MockDispatcher.resolve_job_url),
    "inspect-state": (_READ_OR_POST, MockDispatcher.inspect_state),
    "call_back": (_READ_OR_POST, MockDispatcher.call_back),
    "-/status": (_READ, MockDispatcher.status),
    "": (_READ, MockDispatcher.front_page),
}


def _route(path: str) -> str | None:
    if path == "/":
        return ""
    matching = [route for route in _ROUTES if route and path.endswith(f"/{route}")]
    return max(matching, key=len, default=None)


def _without_arguments(request: web.Request, methods: tuple[str, ...]) -> web.Response | None:
    """Answer what is no question at all; None for what is one."""
    allowed = {"Allow": ", ".join(methods)}
    if request.method == "OPTIONS":
        return web.Response(content_type="text/html", charset="utf-8", headers=allowed)
    if request.method not in methods:
        return _html(_NOT_ALLOWED, 405, allowed)
    if request.content_type == _JSON:  # the dispatcher reads no body of JSON, and falls over it
        return _html(_SERVER_ERROR, 500)
    return None


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


def _html(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)


def _redirect(location: str, query_string: str = "") -> web.Response:
    location = f"{location}?{query_string}" if query_string else location
    shown = html.escape(location)
    text = (
        "<!doctype html>\n<html lang=en>\n<title>Redirecting...</title>\n<h1>Redirecting...</h1>\n"
        f'<p>You should be redirected automatically to the target URL: <a href="{shown}">{shown}</a>. '
        "If not, click the link.\n"
    )
    return web.Response(status=302, text=text, content_type="text/html", headers={"Location": location})
