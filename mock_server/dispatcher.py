"""The routes of the mock dispatcher, under any path prefix."""

from __future__ import annotations

import hashlib
import html
import logging
import mimetypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from aiohttp import web

from mock_server import responses
from mock_server.analysis import AnalysisRequest
from mock_server.control_routes import control, own_route
from mock_server.descriptions import UnknownProductError, meta_data, source_meta_data
from mock_server.error_pages import NOT_FOUND, SERVER_ERROR
from mock_server.faults import respond_with_fault
from mock_server.http_responses import html_page, json_response, redirect, respond_without_arguments
from mock_server.job_routes import NoFileError
from mock_server.parameters import read_arguments
from mock_server.request_context import (
    InternalServerError,
    RefusedError,
    ServiceForbiddenError,
    expired_token_error,
)
from mock_server.service_routes import SERVICES

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Awaitable, Callable, Mapping

    from mock_server.analysis import Analysis
    from mock_server.control import Control
    from mock_server.descriptions import Description
    from mock_server.fixture_library import FixtureLibrary
    from mock_server.job_routes import JobRoutes
    from mock_server.pages import Pages
    from mock_server.scenarios import Fault, FaultPlan, Scenario
    from mock_server.service_routes import ServiceRoutes
    from mock_server.settings import MockSettings
    from mock_server.token_routes import TokenRoutes

    Handler = Callable[["MockDispatcher", "Incoming"], Awaitable[web.Response]]

log = logging.getLogger(__name__)
_UPLOADED: Final = "from_request_files_dir=True&download_file=True&download_products=False"
_OWN_PAGES: Final = "-/"
_READ_AT_HEAD: Final = SERVICES.keys() | {
    "download_products",
    "load_frontend_fits_file_url",
    "oauth_access_token_request",
}
"""Routes for which the dispatcher reads the query string of HEAD."""
_RELOAD: Final = "reload-plugin"
_JSON: Final = "application/json"
_FRONT_PAGE: Final = """<!DOCTYPE html>
<html>
<head><title>CDCI ODA API</title></head>
<body><h1>Mock dispatcher</h1><p>Its instruments: {instruments}.</p>
<p><a href="-/">Its jobs, faults and requests</a></p></body>
</html>
"""


@dataclass(frozen=True)
class Incoming:
    """A parsed request: its path and query string, and all arguments as the dispatcher reads them."""

    path: str
    query: Mapping[str, str]
    query_string: str
    arguments: Mapping[str, Any]
    files: Mapping[str, bytes]
    products_url: str


@dataclass
class MockDispatcher:
    """The routes of a dispatcher; each public method except `handle` is one."""

    settings: MockSettings
    library: FixtureLibrary
    analysis: Analysis
    job_routes: JobRoutes
    token_routes: TokenRoutes
    pages: Pages
    services: ServiceRoutes
    faults: FaultPlan
    scenario: Scenario
    control: Control
    sleep: Callable[[float], Awaitable[None]]
    requests: Counter[str]
    query_statuses: Counter[str]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Find the route by the end of the path, and respond, with the next fault of the scenario if there is one."""
        own = own_route(request.path)
        if own is not None:
            return await control(self.control, request, own, self.library.instruments)
        route = _route(request.path)
        if route is None:
            return self._plain_page(request)
        methods, handler = _ROUTES[route]
        early = respond_without_arguments(request, methods)
        if early is not None:
            return self._without_arguments(request, early)
        form, files = await _read_form(request)
        is_read = request.method != "HEAD" or route in _READ_AT_HEAD
        query = request.query.items() if is_read else ()
        incoming = Incoming(
            path=request.path,
            query=request.query,
            query_string=request.query_string,
            arguments=read_arguments(query, form),
            files=files,
            products_url=self.settings.products_url or f"{request.scheme}://{request.host}/",
        )
        query_status = str(incoming.arguments.get("query_status", ""))
        fault = self.faults.next(route, request.method, query_status)
        if route.startswith(_OWN_PAGES):
            return await self._respond_with(fault, request, handler, incoming)
        self.requests[route] += 1
        if query_status:
            self.query_statuses[query_status] += 1
        entry = self.control.log.add(request.method, request.path, incoming.arguments, files)
        entry.fault = None if fault is None else fault.kind
        response = await self._respond_with(fault, request, handler, incoming)
        entry.status = response.status
        return response

    def _without_arguments(self, request: web.Request, response: web.Response) -> web.Response:
        """Log a request whose arguments are not read, and return the response to it."""
        self.control.log.add(request.method, request.path, request.query, {}).status = response.status
        return response

    async def _respond_with(
        self, fault: Fault | None, request: web.Request, handler: Handler, incoming: Incoming
    ) -> web.StreamResponse:
        if fault is None:
            return await self._respond(handler, incoming)
        job_id = str(incoming.arguments.get("job_id", ""))
        has_effect = {"expire-token": "token" in incoming.arguments, "change-job-id": bool(job_id)}
        if has_effect.get(fault.kind, True):
            self.faults.note_strike(fault)
        if fault.kind == "expire-token":
            return await self._respond(handler, incoming, token_expired="token" in incoming.arguments)
        return await respond_with_fault(fault, request, job_id, lambda: self._respond(handler, incoming), self.sleep)

    async def _respond(self, handler: Handler, incoming: Incoming, *, token_expired: bool = False) -> web.Response:
        try:
            if token_expired:
                raise expired_token_error()
            return await handler(self, incoming)
        except ServiceForbiddenError as error:
            return html_page(str(error), error.http_status)
        except (UnknownProductError, InternalServerError):  # the first: in requests for a description
            return html_page(SERVER_ERROR, 500)
        except RefusedError as error:
            body = responses.error_body(
                error.kind,
                str(error),
                instruments=self.library.instruments,
                products_url=incoming.products_url,
                debug_message=error.debug_message,
            )
            return web.Response(status=error.status, body=body, content_type=_JSON)

    def _plain_page(self, request: web.Request) -> web.Response:
        """Respond with the page of a service around the dispatcher, or that there is none."""
        page = self.pages.find(request.path, request.query)
        if page is None:
            return self._without_arguments(request, html_page(NOT_FOUND, 404))
        self.requests[page.path] += 1
        early = respond_without_arguments(request, _READ)
        if early is not None:
            return self._without_arguments(request, early)
        if page.is_json:
            response = json_response(page.filled_in(request.query), page.status)
        else:
            escaped = {name: html.escape(value) for name, value in request.query.items()}
            response = html_page(page.filled_in(escaped), page.status)
        return self._without_arguments(request, response)

    def ineffective(self) -> list[str]:
        """Return the scenario, if it had no effect so far, and the further faults that did not strike, as text."""
        strikes = [self.faults.struck[place] for place in range(len(self.faults.faults))]
        of_scenario = len(self.scenario.faults)
        has_job = any(not job.is_synchronous or self.scenario.outcome for job in self.analysis.jobs.jobs.values())
        changes_jobs = self.scenario.outcome is not None or self.scenario.time_scale != 1
        texts = []
        if self.scenario.name and not any(strikes[:of_scenario]) and not (changes_jobs and has_job):
            texts.append(f"the scenario {self.scenario.name!r}")
        further = zip(self.faults.faults[of_scenario:], strikes[of_scenario:], strict=True)
        return texts + [f"the fault {fault}" for fault, count in further if not count]

    async def run_analysis(self, incoming: Incoming) -> web.Response:
        """Run a query, or return the state of its job."""
        request = AnalysisRequest(incoming.arguments, incoming.products_url, incoming.files)
        response = await self.analysis.answer(request)
        return web.Response(status=response.status, body=response.body, content_type=_JSON)

    async def api_instr_list(self, incoming: Incoming) -> web.Response:
        """List the instruments, or redirect as today's dispatchers do if `redirect_instr_list` is set."""
        if self.settings.redirect_instr_list is not None:
            return redirect(self.settings.redirect_instr_list, incoming.query_string)
        return await self.instr_list(incoming)

    async def instr_list(self, incoming: Incoming) -> web.Response:
        """List the instruments that requests without a token, or with this valid one, can use."""
        token = self.analysis.reader.service_token(incoming.query.get("token"))
        return json_response(self.analysis.reader.visible_instruments(token))

    async def meta_data(self, incoming: Incoming) -> web.Response:
        """Describe an instrument, or one product of it."""
        description = self._description(incoming)
        return json_response(meta_data(description, incoming.query.get("product_type"), self.settings.generation))

    async def par_names(self, incoming: Incoming) -> web.Response:
        """Name the parameters of a product, or of all products of an instrument."""
        description = self._description(incoming)
        return json_response(description.par_names(incoming.query.get("product_type")))

    async def api_parameters(self, incoming: Incoming) -> web.Response:
        """Return the arguments of the request, with a session if it has none."""
        self._description(incoming)
        session_id = self.analysis.reader.session_id(incoming.query.get("session_id"))
        return json_response({**incoming.query, "session_id": session_id})

    async def service(self, incoming: Incoming) -> web.Response:
        """Answer a request for a service behind the dispatcher."""
        route = _route(incoming.path) or ""
        return self.services.respond(route, incoming.path, incoming.query, incoming.arguments)

    async def load_file(self, incoming: Incoming) -> web.Response:
        """Answer a request for a file of another site."""
        return self.services.load_file(incoming.path, incoming.arguments)

    async def reload_plugin(self, incoming: Incoming) -> web.Response:
        """Answer a request to reload the plugin at the end of the path."""
        return self.services.reload_plugin(incoming.path.rsplit("/", 1)[-1])

    async def exchange_code(self, incoming: Incoming) -> web.Response:
        """Refuse to exchange a code for a token."""
        return self.services.exchange_code(incoming.arguments)

    async def meta_data_src(self, incoming: Incoming) -> web.Response:
        """Describe the parameters of a source."""
        return json_response(source_meta_data(self._description(incoming), self.settings.generation))

    def _description(self, incoming: Incoming) -> Description:
        """Return the requested description; raises RefusedError, or UnknownProductError for the instrument `mock`."""
        token = self.analysis.reader.token(incoming.query.get("token"), is_description=True)
        if incoming.query.get("instrument") == "mock":
            raise UnknownProductError("mock", {})  # the default of clients; the dispatcher fails on it
        return self.analysis.reader.description(incoming.arguments, token)

    async def download_products(self, incoming: Incoming) -> web.Response:
        """Send files of a job to the session that started it, or an uploaded file to those who may read it."""
        try:
            if incoming.query.get("from_request_files_dir") == "True":
                name, content, is_packed = self.job_routes.uploaded_file(incoming.query, self.analysis.uploads)
            else:
                name, content, is_packed = await self.job_routes.files(incoming.arguments)
        except NoFileError as error:
            return web.Response(status=error.http_status, body=error.body, content_type=_JSON)
        headers = {
            "Content-Disposition": f"attachment; filename={quote(name)}",
            "Cache-Control": "no-cache",
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
        }
        kind = "application/x-gzip-compressed" if is_packed else mimetypes.guess_type(name)[0]
        return web.Response(body=content, content_type=kind or "application/octet-stream", headers=headers)

    async def download_file(self, incoming: Incoming) -> web.Response:
        """Redirect to the download of uploaded files."""
        query = f"?{incoming.query_string}" if incoming.query_string else ""  # without one, it has no "?" either
        return redirect(f"{incoming.products_url}dispatch-data/download_products{query}&{_UPLOADED}")

    async def resolve_job_url(self, incoming: Incoming) -> web.Response:
        """Redirect to the page of a job."""
        return redirect(self.job_routes.link(incoming.query, incoming.products_url))

    async def inspect_state(self, incoming: Incoming) -> web.Response:
        """List jobs for tokens with the role."""
        return json_response(self.job_routes.records(incoming.query))

    async def inspect_user_state(self, incoming: Incoming) -> web.Response:
        """List the jobs of the user of a token."""
        return json_response(self.job_routes.user_records(incoming.query))

    async def call_back(self, incoming: Incoming) -> web.Response:
        """Store the report of a back end."""
        return json_response(self.job_routes.call_back(incoming.query))

    async def refresh_token(self, incoming: Incoming) -> web.Response:
        """Return the token of the request with a later expiry."""
        return html_page(self.token_routes.refresh(incoming.query, incoming.arguments))

    async def update_token_email_options(self, incoming: Incoming) -> web.Response:
        """Return the token of the request with other options of e-mails."""
        return html_page(self.token_routes.update_email_options(incoming.arguments))

    async def front_page(self, incoming: Incoming) -> web.Response:
        """Return a page for people."""
        del incoming
        return html_page(_FRONT_PAGE.format(instruments=html.escape(", ".join(self.library.instruments))))

    async def status(self, incoming: Incoming) -> web.Response:
        """Return counts for tests: jobs, runs, requests by route and query_status, fixtures served, faults."""
        del incoming
        jobs = self.analysis.jobs
        return json_response(
            {
                "jobs": len(jobs.jobs),
                "runs": jobs.runs,
                "requests": dict(self.requests),
                "asked": dict(self.query_statuses),
                "served": dict(self.analysis.served),
                "faults": [
                    {"fault": str(fault), "struck": self.faults.struck[place]}
                    for place, fault in enumerate(self.faults.faults)
                ],
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
    "api/parameters": (_READ, MockDispatcher.api_parameters),
    **{route: (service.methods, MockDispatcher.service) for route, service in SERVICES.items()},
    "load_frontend_fits_file_url": (_READ, MockDispatcher.load_file),
    "oauth_access_token_request": (_READ, MockDispatcher.exchange_code),
    _RELOAD: (_READ, MockDispatcher.reload_plugin),
    "download_products": (_READ_OR_POST, MockDispatcher.download_products),
    "download_file": (_READ_OR_POST, MockDispatcher.download_file),
    "resolve-job-url": (_READ, MockDispatcher.resolve_job_url),
    "inspect-state": (_READ_OR_POST, MockDispatcher.inspect_state),
    "inspect-user-state": (_READ_OR_POST, MockDispatcher.inspect_user_state),
    "call_back": (_READ_OR_POST, MockDispatcher.call_back),
    "refresh_token": (_READ_OR_POST, MockDispatcher.refresh_token),
    "update_token_email_options": (_READ_OR_POST, MockDispatcher.update_token_email_options),
    "-/status": (_READ, MockDispatcher.status),
    "": (_READ, MockDispatcher.front_page),
}


def _route(path: str) -> str | None:
    if path == "/":
        return ""
    if path.rsplit("/", 1)[0].endswith(f"/{_RELOAD}"):  # the name of a plugin follows
        return _RELOAD
    matching = [route for route in _ROUTES if route not in ("", _RELOAD) and path.endswith(f"/{route}")]
    return max(matching, key=len, default=None)


async def _read_form(request: web.Request) -> tuple[list[tuple[str, str]], dict[str, bytes]]:
    """Return the fields and files of a form; none if it cannot be read, as Werkzeug does for the dispatcher."""
    fields: list[tuple[str, str]] = []
    files: dict[str, bytes] = {}
    if request.method == "POST":
        try:
            form = await request.post()
        except (ValueError, LookupError, RuntimeError, web.RequestPayloadError) as error:
            log.warning("the form of a request to %s cannot be read, and is taken as empty: %s", request.path, error)
            return fields, files
        for name, value in form.items():
            if isinstance(value, web.FileField):
                files[name] = value.file.read()
            elif isinstance(value, str):
                fields.append((name, value))
    return fields, files
