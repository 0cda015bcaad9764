"""The route `run_analysis`, from a request to its response."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from mock_server import responses, roles
from mock_server.catalog_files import FILE as CATALOG_FILE
from mock_server.catalog_files import CatalogFileError, read_catalog_file
from mock_server.catalogs import SELECTION, CatalogError, read_selection
from mock_server.checked_request import CheckedRequest, normalised_query
from mock_server.descriptions import checked_parameters
from mock_server.job_folders import folder_name
from mock_server.job_id import job_id, job_id_2019
from mock_server.jobs import request_kind
from mock_server.near_misses import explain_miss
from mock_server.parameter_values import BadParameterError, BadUnitsError
from mock_server.parameters import (
    COMMENT_ON_ARGUMENTS,
    BadParameter2019Error,
    check,
    check_2019,
    time_format_of,
)
from mock_server.request_context import RefusedError, constructor_failed
from mock_server.responses import ExitStatus, Response
from mock_server.scw_lists import FILE as SCW_LIST_FILE
from mock_server.scw_lists import ScwListError, with_scw_list
from mock_server.times import needs_astropy
from mock_server.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mock_server.dummy_back_end import DummyBackEnd
    from mock_server.fixture_library import FixtureLibrary, ProductSource
    from mock_server.job_folders import JobFolders
    from mock_server.jobs import Job, JobTable, Reply
    from mock_server.matching import NormalisedQuery
    from mock_server.new_jobs import NewJobs
    from mock_server.parameters import Parameters
    from mock_server.request_context import RequestContext, RequestReader
    from mock_server.settings import MockSettings

_BAD_REQUEST: Final = 400
_FORBIDDEN: Final = 403
_EXIT_STATUS_TEXTS: Final = ("message", "error_message", "debug_message", "comment", "warning")


@dataclass(frozen=True)
class AnalysisRequest:
    """A request: merged arguments, the public address for links in the response, contents of uploaded files."""

    arguments: Mapping[str, Any]
    products_url: str
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class EncodedResponse:
    """Status and JSON body of a response."""

    status: int
    body: bytes


@dataclass(frozen=True)
class Analysis:
    """Answers requests for analyses; `served` counts responses with products by fixture."""

    settings: MockSettings
    library: FixtureLibrary
    jobs: JobTable
    new_jobs: NewJobs
    reader: RequestReader
    back_end: DummyBackEnd
    folders: JobFolders | None = None
    uploads: Uploads = field(default_factory=Uploads)
    served: Counter[str] = field(default_factory=Counter)

    @property
    def _is_2019(self) -> bool:
        return self.settings.generation == "2019"

    async def answer(self, request: AnalysisRequest) -> EncodedResponse:
        """Answer a request; raises RefusedError, except in generation 2019, whose status is always 200."""
        if not self._is_2019:
            return await self._answer(request)
        try:
            return await self._answer(request)
        except RefusedError as error:
            session_id = str(request.arguments.get("session_id"))
            return EncodedResponse(200, responses.failed_body(str(error), job_id="", session_id=session_id))

    async def _answer(self, request: AnalysisRequest) -> EncodedResponse:
        context = self.reader.context(request.arguments, request.products_url)
        try:
            arguments = await self._arguments(request, context)
            parameters = await self._check(arguments, context)
            if CATALOG_FILE in request.files:
                catalog = await asyncio.to_thread(read_catalog_file, request.files[CATALOG_FILE])
                parameters = replace(parameters, echo={**parameters.echo, "selected_catalog": catalog})
        except BadUnitsError as error:
            raise RefusedError("RequestNotUnderstood", constructor_failed(context.description.name, error)) from None
        except (CatalogError, CatalogFileError, ScwListError, BadParameterError) as error:
            raise RefusedError("RequestNotUnderstood", str(error)) from None
        except BadParameter2019Error as error:
            return self._failed(context, "", ExitStatus("failed", 1, "failed: setting form parameters", str(error)))
        query = normalised_query(context, parameters, arguments, request.files)
        refusal = None if self.library.dummy_plugin is None else self.library.dummy_plugin.refusal(query)
        if refusal is not None:
            raise RefusedError("RequestNotUnderstood", refusal)
        computed_job_id = job_id_2019(arguments) if self._is_2019 else job_id(parameters.echo, context.subject)
        if self._is_2019 and arguments.get("dry_run") == "True":
            parameter_items = checked_parameters(context.description, context.product, arguments)
            monitor = {"job_id": computed_job_id, "session_id": context.session_id, "status": "done"}
            response = self._response(context, "done", ExitStatus("done", message="dry-run"), monitor)
            return _encoded(replace(response, bookkeeping={"instrumet_parameters": parameter_items}))
        checked = CheckedRequest(
            context=context,
            parameters=parameters,
            query=query,
            arguments=arguments,
            files={name: request.files[name] for name in request.files.keys() & {CATALOG_FILE, SCW_LIST_FILE}},
            wants_progress=arguments.get("return_progress") == "True",
            computed_job_id=computed_job_id,
            shown_job_id=self._shown_job_id(context, arguments.get("job_id"), computed_job_id),
        )
        return self._forbidden(checked) or await self._run(checked)

    async def _arguments(self, request: AnalysisRequest, context: RequestContext) -> dict[str, Any]:
        """Return the arguments of a request, its session, and the values that its files become."""
        if not self._is_2019 and request.arguments.get(SELECTION) is not None:
            read_selection(request.arguments[SELECTION])
        arguments = with_scw_list(request.arguments, request.files, context.description.input_list_name)
        stored = self.uploads.store(request.files, request.products_url, context.token)
        return {**arguments, "session_id": context.session_id, **stored}

    async def _check(self, arguments: Mapping[str, Any], context: RequestContext) -> Parameters:
        checker = check_2019 if self._is_2019 else check
        times = [arguments[name] for name in ("T1", "T2") if name in arguments]
        # What may take long: the import of astropy, and a check against a schema.
        has_schema = any(one.kind == "structured" for one in context.description.parameters(context.product))
        if has_schema or needs_astropy(times, time_format_of(arguments)):
            return await asyncio.to_thread(checker, arguments, context.description, context.product)
        return checker(arguments, context.description, context.product)

    def _shown_job_id(self, context: RequestContext, requested: Any, computed: str) -> str:
        """Check the job_id of the request, and return the one for the response; raises RefusedError."""
        if context.query_status == "new":
            if requested and requested != computed and not self._is_2019:
                raise RefusedError(
                    "RequestNotUnderstood",
                    f'during query_status == "new", provided (unnecessarily) job_id {requested} did not match '
                    f"self.job_id {computed} computed from request",
                )
            return computed
        if not requested:
            raise RefusedError(
                "RequestNotUnderstood",
                f'job_id must be present if query_status != "new" (it is "{context.query_status}")',
            )
        if str(requested) not in self.jobs.by_id:
            raise RefusedError("InvalidJobIDProvided", f"unable to find any record for {requested}")
        return str(requested)

    def _forbidden(self, checked: CheckedRequest) -> EncodedResponse | None:
        """Return the response to a request for another user's job or with missing roles; None if it is allowed."""
        if self._is_2019:
            return None
        context = checked.context
        job = self.jobs.by_id.get(checked.shown_job_id)
        if job is not None and job.subject != context.subject:
            reason = job.foreign_reason(checked.shown_job_id, context.token)
            exit_status = ExitStatus("failed", 1, "Request not authorized", debug_message=reason)
            return self._failed(context, checked.shown_job_id, exit_status, _FORBIDDEN)
        missing = roles.missing_roles(checked.parameters.echo, context.roles)
        missing |= roles.missing_for_product(context.description.product_query(context.product), context.roles)
        if self.library.dummy_plugin is not None:
            missing |= self.library.dummy_plugin.missing_roles(checked.query, context.roles)
        if missing:
            message = roles.refusal_text(missing, context.roles)
            exit_status = ExitStatus("failed", 1, message, comment=checked.parameters.comment)
            return self._failed(context, checked.shown_job_id, exit_status, _FORBIDDEN)
        return None

    async def _run(self, checked: CheckedRequest) -> EncodedResponse:
        """Run the query, or return the state of its job."""
        context, comment = checked.context, checked.parameters.comment
        key = (checked.query.key(), context.subject)
        fixture: ProductSource | None = self.library.find(checked.query)
        if fixture is None and request_kind(context.query_status) not in ("new", "ready"):
            known_job = self.jobs.find(key, checked.shown_job_id)  # a poll may leave out the parameters of its query
            fixture = None if known_job is None else known_job.fixture
        fixture = fixture or self.library.synthesise(checked.query)
        if fixture is None:
            message = self._explain_miss(checked)
            body = responses.failed_body(
                message, job_id=checked.shown_job_id, session_id=context.session_id, comment=comment
            )
            return EncodedResponse(200 if self._is_2019 else _BAD_REQUEST, body)
        status = context.query_status
        if request_kind(status) == "poll":
            self.jobs.note_poll(key, checked.shown_job_id)
        if self._is_2019 and request_kind(status) == "poll" and self.jobs.is_ready(key, checked.shown_job_id):
            status = "ready"  # the headers in the notebook show that its clients went from `submitted` to products
        new_job = self.new_jobs.job(checked, fixture)
        if request_kind(status) != "poll":
            self._follow_back_end(checked.query, fixture, (new_job, self.jobs.find(key, checked.shown_job_id)))
        job, reply = self.jobs.handle(key, new_job, status, checked.shown_job_id)
        monitor = responses.job_monitor(
            job,
            job_id=checked.shown_job_id,
            status=reply.job_status,
            reports=() if reply.job_status in ("done", "unaccessible") else job.reports(self.jobs.clock()),
            token=context.token_text,
        )
        has_products = reply.has_products
        if checked.wants_progress and reply.query_status in ("submitted", "progress"):
            has_products = reply.query_status == "progress"
            reply = replace(reply, query_status="submitted", ran=True)
        plugin = self.library.dummy_plugin
        if checked.wants_progress and plugin is not None and plugin.returns_progress(checked.query):
            reply = replace(reply, query_status="submitted", job_status="submitted")
            monitor["status"] = "submitted"
        response = self._response(context, reply.query_status, _exit_status(job, reply, comment), monitor)
        if not reply.ran:
            return _encoded(response)
        response = replace(response, bookkeeping=self._bookkeeping(checked, job, reply, has_products=has_products))
        products = await self._products(checked, job) if has_products else b""
        if self.folders is not None:
            is_aliased = job.session_id != context.session_id
            name = folder_name(context.session_id, checked.shown_job_id, is_aliased=is_aliased)
            self.folders.write_response(name, response, products, checked.parameters.echo, checked.files)
        return _encoded(response, products)

    def _follow_back_end(self, query: NormalisedQuery, fixture: ProductSource, jobs: Iterable[Job | None]) -> None:
        """Set the state of jobs of a dummy instrument to that in the file of its back end, if there is one."""
        plugin = self.library.dummy_plugin
        if plugin is None or not plugin.waits_for_reports(query, fixture):
            return
        state = self.back_end.state()
        for job in jobs:
            if job is not None and state is not None:
                job.reported_state = state

    def _explain_miss(self, checked: CheckedRequest) -> str:
        parameters = checked.context.description.parameters(checked.context.product)
        return explain_miss(
            checked.query,
            ((other, fixture.path) for other, fixture in self.library.index.queries),
            units={parameter.name: parameter.units for parameter in parameters},
            argument_names=checked.arguments.keys(),
        )

    async def _products(self, checked: CheckedRequest, job: Job) -> bytes:
        self.served[job.fixture.path] += 1
        echo = checked.parameters.echo
        if not self._is_2019:
            return await self.library.products(job.fixture, for_1_0=checked.is_from_1_0)
        # The client in the notebook warns about every long keyword, but not about this one.
        cards = {name: str(value) for name, value in echo.items() if name != "selected_catalog"}
        cards |= {"job_id": checked.shown_job_id, "session_id": checked.context.session_id}
        cards["url"] = f"{checked.context.products_url}?{urlencode(echo)}"
        return await self.library.products_2019(job.fixture, cards)

    def _bookkeeping(self, checked: CheckedRequest, job: Job, reply: Reply, *, has_products: bool) -> dict[str, Any]:
        """Return the members of `products` after the data products, for a request that ran its query."""
        echo = checked.parameters.echo
        bookkeeping: dict[str, Any] = {}
        if has_products:
            plugin = self.library.dummy_plugin
            of_plugin = None
            if plugin is not None:
                of_plugin = plugin.members(checked.query, checked.arguments, echo, self.back_end.current_p())
            bookkeeping |= {"prod_process_message": ""} if of_plugin is None else of_plugin
            bookkeeping |= {"session_id": job.session_id, "job_id": checked.shown_job_id}
        if reply.query_status != "failed":
            default = echo.get("scw_list") or []
            bookkeeping["input_prod_list"] = job.recorded.products.get("input_prod_list", default)
        bookkeeping["analysis_paramters" if self._is_2019 else "analysis_parameters"] = echo
        address = self.settings.products_url or checked.context.products_url.rstrip("/")
        bookkeeping["api_code"] = responses.api_code(echo, address)
        return bookkeeping

    def _failed(
        self, context: RequestContext, shown_job_id: str, exit_status: ExitStatus, status: int = 200
    ) -> EncodedResponse:
        monitor = {"job_id": shown_job_id, "session_id": context.session_id, "status": "failed"}
        return _encoded(replace(self._response(context, "failed", exit_status, monitor), http_status=status))

    def _response(
        self, context: RequestContext, query_status: str, exit_status: ExitStatus, monitor: Mapping[str, Any]
    ) -> Response:
        return Response(
            query_status=query_status,
            exit_status=exit_status,
            job_monitor=monitor,
            session_id=context.session_id,
            time_request=None if self._is_2019 else context.time_request,
        )


def _encoded(response: Response, products: bytes = b"") -> EncodedResponse:
    return EncodedResponse(response.http_status, response.body(products))


def _exit_status(job: Job, reply: Reply, comment: str) -> ExitStatus:
    """Return the member `exit_status`; messages of the back end are for requests that run the query, not for polls."""
    if reply.job_status == "unaccessible":
        return ExitStatus("unaccessible", 1, "failed: submitted job", comment=comment)
    if job.failure and reply.query_status == "failed":
        return ExitStatus(reply.job_status, 1, job.failure, comment=comment)
    if not reply.ran:
        return ExitStatus(reply.job_status, comment=comment)
    job_status = "unknown" if job.is_synchronous and reply.query_status == "failed" else reply.job_status
    texts = {name: str(job.recorded.exit_status.get(name, "")) for name in _EXIT_STATUS_TEXTS}
    # A recorded comment on unused arguments refers to the recorded request.
    refers_to_recorded_request = texts["comment"].startswith(COMMENT_ON_ARGUMENTS)
    texts["comment"] = comment or ("" if refers_to_recorded_request else texts["comment"])
    return ExitStatus(job_status, int(reply.query_status == "failed"), **texts)
