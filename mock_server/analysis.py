"""`run_analysis`: the whole story from a request to its answer."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from mock_server import answers, roles
from mock_server.answers import Answer, ExitStatus
from mock_server.asking import RefusedError
from mock_server.descriptions import checked_parameters
from mock_server.job_id import job_id, job_id_2019
from mock_server.jobs import Job, asked
from mock_server.matching import Question
from mock_server.near_misses import explain_miss
from mock_server.parameters import (
    COMMENT_ON_ARGUMENTS,
    BadParameter2019Error,
    BadParameterError,
    check,
    check_2019,
    time_format_of,
)
from mock_server.scw_lists import FILE as SCW_LIST_FILE
from mock_server.scw_lists import ScwListError, with_scw_list
from mock_server.times import needs_astropy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mock_server.asking import Asker, Reception
    from mock_server.jobs import JobTable, Reply
    from mock_server.library import Answering, Library
    from mock_server.parameters import Parameters
    from mock_server.scenarios import Scenario
    from mock_server.settings import MockSettings

_BAD_REQUEST: Final = 400
_FORBIDDEN: Final = 403
_TOLD: Final = ("message", "error_message", "debug_message", "comment", "warning")


@dataclass(frozen=True)
class AnalysisRequest:
    """A request as it came: merged arguments, the address that answers quote, contents of uploaded files."""

    arguments: Mapping[str, Any]
    products_url: str
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Response:
    """Status and JSON body of an answer."""

    status: int
    body: bytes


@dataclass(frozen=True)
class _Query:
    """A query that was read and checked.

    `given` names its arguments; `wants_progress` asks for the products of a running job; `computed` is its own job_id,
    `shown` the one that answers show: polls keep the one they came with.
    """

    asker: Asker
    parameters: Parameters
    question: Question
    given: frozenset[str]
    wants_progress: bool
    computed: str
    shown: str


@dataclass(frozen=True)
class Analysis:
    """Answers requests for analyses, job by job; `served` counts the answers with products, by fixture."""

    settings: MockSettings
    scenario: Scenario
    library: Library
    jobs: JobTable
    reception: Reception
    served: Counter[str] = field(default_factory=Counter)

    @property
    def _is_2019(self) -> bool:
        return self.settings.generation == "2019"

    async def answer(self, request: AnalysisRequest) -> Response:
        """Answer a request; raises RefusedError, but not as a dispatcher of 2019, which answered 200 to everything."""
        if not self._is_2019:
            return await self._answer(request)
        try:
            return await self._answer(request)
        except RefusedError as error:
            session_id = str(request.arguments.get("session_id"))
            return Response(200, answers.failure(str(error), job_id="", session_id=session_id))

    async def _answer(self, request: AnalysisRequest) -> Response:
        asker = self.reception.asker(request.arguments, request.products_url)
        try:
            arguments = {**with_scw_list(request.arguments, request.files), "session_id": asker.session_id}
            parameters = await self._check(arguments, asker)
        except (ScwListError, BadParameterError) as error:
            raise RefusedError("RequestNotUnderstood", str(error)) from None
        except BadParameter2019Error as error:
            return self._failed(asker, "", ExitStatus("failed", 1, "failed: setting form parameters", str(error)))
        computed = job_id_2019(arguments) if self._is_2019 else job_id(parameters.echo, asker.subject)
        if self._is_2019 and arguments.get("dry_run") == "True":
            described = checked_parameters(asker.description, asker.product, arguments)
            monitor = {"job_id": computed, "session_id": asker.session_id, "status": "done"}
            answer = self._draft(asker, "done", ExitStatus("done", message="dry-run"), monitor)
            return _written(replace(answer, bookkeeping={"instrumet_parameters": described}))
        query = _Query(
            asker=asker,
            parameters=parameters,
            question=_question(asker, parameters, arguments, request.files),
            given=frozenset(arguments),
            wants_progress=arguments.get("return_progress") == "True",
            computed=computed,
            shown=self._shown_job_id(asker, arguments.get("job_id"), computed),
        )
        return self._forbid(query) or await self._run(query)

    async def _check(self, arguments: Mapping[str, Any], asker: Asker) -> Parameters:
        checker = check_2019 if self._is_2019 else check
        times = [arguments[name] for name in ("T1", "T2") if name in arguments]
        if needs_astropy(times, time_format_of(arguments)):
            return await asyncio.to_thread(checker, arguments, asker.description, asker.product)
        return checker(arguments, asker.description, asker.product)

    def _shown_job_id(self, asker: Asker, given: Any, computed: str) -> str:
        """Return the job_id that the answer shows, once the request's own was checked; raises RefusedError."""
        if asker.query_status == "new":
            if given and given != computed and not self._is_2019:
                raise RefusedError(
                    "RequestNotUnderstood",
                    f'during query_status == "new", provided (unnecessarily) job_id {given} did not match '
                    f"self.job_id {computed} computed from request",
                )
            return computed
        if not given:
            raise RefusedError(
                "RequestNotUnderstood",
                f'job_id must be present if query_status != "new" (it is "{asker.query_status}")',
            )
        if str(given) not in self.jobs.by_id:
            raise RefusedError("InvalidJobIDProvided", f"unable to find any record for {given}")
        return str(given)

    def _forbid(self, query: _Query) -> Response | None:
        """Answer who asks for somebody else's job, or for what their roles do not allow; None if all is well."""
        if self._is_2019:
            return None
        asker = query.asker
        known = self.jobs.by_id.get(query.shown)
        if known is not None and known.subject != asker.subject:
            derived = job_id(known.echo, asker.subject)
            account = "" if asker.token is None else " for your user account email"
            reason = (
                f"The provided job_id={query.shown} does not match with the job_id={derived} derived from the request "
                f"parameters{account}; parameters are derived from recorded job state"
            )
            exit_status = ExitStatus("failed", 1, "Request not authorized", debug_message=reason)
            return self._failed(asker, query.shown, exit_status, _FORBIDDEN)
        missing = roles.missing_roles(query.parameters.echo, asker.roles)
        if missing:
            message = roles.refusal_text(missing, asker.roles)
            exit_status = ExitStatus("failed", 1, message, comment=query.parameters.comment)
            return self._failed(asker, query.shown, exit_status, _FORBIDDEN)
        return None

    async def _run(self, query: _Query) -> Response:
        """Run the query, or tell how far its job is."""
        asker, comment = query.asker, query.parameters.comment
        key = (query.question.key(), asker.subject)
        fixture: Answering | None = self.library.index.find(query.question)
        if fixture is None and asked(asker.query_status) not in ("new", "ready"):
            known = self.jobs.find(key, query.shown)  # a poll may leave out the parameters of its query
            fixture = None if known is None else known.fixture
        fixture = fixture or self.library.make_up(query.question)
        if fixture is None:
            message = self._explain_miss(query)
            body = answers.failure(message, job_id=query.shown, session_id=asker.session_id, comment=comment)
            return Response(200 if self._is_2019 else _BAD_REQUEST, body)
        status = asker.query_status
        if self._is_2019 and asked(status) == "poll" and self.jobs.is_ready(key, query.shown):
            status = "ready"  # the notebook's clients went from `submitted` to products, as their headers tell
        job, reply = self.jobs.ask(key, self._job(query, fixture), status, query.shown)
        monitor = answers.job_monitor(
            job,
            job_id=query.shown,
            status=reply.job_status,
            reports=() if reply.job_status in ("done", "unaccessible") else job.reports(self.jobs.clock()),
            token=asker.token_text,
        )
        has_products = reply.has_products
        if query.wants_progress and reply.query_status in ("submitted", "progress"):
            has_products = reply.query_status == "progress"
            reply = replace(reply, query_status="submitted", ran=True)
        answer = self._draft(asker, reply.query_status, _exit_status(job, reply, comment), monitor)
        if not reply.ran:
            return _written(answer)
        answer = replace(answer, bookkeeping=self._bookkeeping(query, job, reply, has_products=has_products))
        return _written(answer, await self._products(query, job) if has_products else b"")

    def _explain_miss(self, query: _Query) -> str:
        described = query.asker.description.parameters(query.asker.product)
        return explain_miss(
            query.question,
            ((question, fixture.path) for question, fixture in self.library.index.questions),
            units={parameter.name: parameter.units for parameter in described},
            given=query.given,
        )

    def _job(self, query: _Query, fixture: Answering) -> Job:
        """Make the job that a query begins if there is none."""
        asker = query.asker
        recorded = self.library.answer(fixture)
        if self.scenario.outcome == "failed":
            recorded = replace(recorded, query_status="failed", exit_status={"status": 1})
        scale = self.settings.time_scale * self.scenario.time_scale
        is_synchronous = scale == 0 or asker.description.product_query(asker.product).synchronous
        return Job(
            job_id=query.computed,
            session_id=asker.session_id,
            subject=asker.subject,
            echo=query.parameters.echo,
            fixture=fixture,
            recorded=recorded,
            timeline=() if is_synchronous else tuple((state, seconds * scale) for state, seconds in recorded.timeline),
            begun=self.jobs.clock(),
            time_request=asker.time_request,
        )

    async def _products(self, query: _Query, job: Job) -> bytes:
        self.served[job.fixture.path] += 1
        echo = query.parameters.echo
        if not self._is_2019:
            return await self.library.products(job.fixture, for_1_0="oda_api_version" not in echo)
        # The notebook's client warns of every long keyword, but not of this one.
        cards = {name: str(value) for name, value in echo.items() if name != "selected_catalog"}
        cards |= {"job_id": query.shown, "session_id": query.asker.session_id}
        cards["url"] = f"{query.asker.products_url}?{urlencode(echo)}"
        return await self.library.products_2019(job.fixture, cards)

    def _bookkeeping(self, query: _Query, job: Job, reply: Reply, *, has_products: bool) -> dict[str, Any]:
        """Write what stands behind the data products of a request that ran its query."""
        echo = query.parameters.echo
        bookkeeping: dict[str, Any] = {}
        if has_products:
            bookkeeping |= {"prod_process_message": "", "session_id": job.session_id, "job_id": query.shown}
        if reply.query_status != "failed":
            default = echo.get("scw_list") or []
            bookkeeping["input_prod_list"] = job.recorded.products.get("input_prod_list", default)
        bookkeeping["analysis_paramters" if self._is_2019 else "analysis_parameters"] = echo
        bookkeeping["api_code"] = answers.api_code(echo, query.asker.products_url)
        return bookkeeping

    def _failed(self, asker: Asker, shown: str, exit_status: ExitStatus, status: int = 200) -> Response:
        monitor = {"job_id": shown, "session_id": asker.session_id, "status": "failed"}
        return _written(replace(self._draft(asker, "failed", exit_status, monitor), http_status=status))

    def _draft(self, asker: Asker, query_status: str, exit_status: ExitStatus, monitor: Mapping[str, Any]) -> Answer:
        return Answer(
            query_status=query_status,
            exit_status=exit_status,
            job_monitor=monitor,
            session_id=asker.session_id,
            time_request=None if self._is_2019 else asker.time_request,
        )


def _written(answer: Answer, products: bytes = b"") -> Response:
    return Response(answer.http_status, answer.body(products))


def _exit_status(job: Job, reply: Reply, comment: str) -> ExitStatus:
    """Tell how it went; what the back end has to say is told to who ran the query, not to who polls."""
    if reply.job_status == "unaccessible":
        return ExitStatus("unaccessible", 1, "failed: submitted job", comment=comment)
    if not reply.ran:
        return ExitStatus(reply.job_status, comment=comment)
    job_status = "unknown" if job.is_synchronous and reply.query_status == "failed" else reply.job_status
    told = {name: str(job.recorded.exit_status.get(name, "")) for name in _TOLD}
    # A recorded comment on unused arguments is about those of whoever recorded it.
    is_recorders = told["comment"].startswith(COMMENT_ON_ARGUMENTS)
    told["comment"] = comment or ("" if is_recorders else told["comment"])
    return ExitStatus(job_status, int(reply.query_status == "failed"), **told)


def _question(
    asker: Asker, parameters: Parameters, arguments: Mapping[str, Any], files: Mapping[str, bytes]
) -> Question:
    return Question(
        instrument=asker.description.name,
        product=asker.product,
        query_type=str(arguments["query_type"]),
        parameters=parameters.decisive,
        api="api" in arguments,
        files={name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != SCW_LIST_FILE},
    )
