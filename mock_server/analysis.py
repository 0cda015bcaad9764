"""`run_analysis`: the whole story from a request to its answer."""

from __future__ import annotations

import hashlib
import string
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from mock_server import answers, roles
from mock_server.answers import Answer, ExitStatus
from mock_server.descriptions import Description, UnknownProductError, checked_parameters
from mock_server.job_id import job_id, job_id_2019
from mock_server.jobs import Job, JobTable, Reply, asked
from mock_server.matching import Question
from mock_server.parameters import BadParameter2019Error, BadParameterError, Parameters, check, check_2019
from mock_server.scw_lists import FILE as SCW_LIST_FILE
from mock_server.scw_lists import ScwListError, with_scw_list
from mock_server.tokens import ExpiredTokenError, InvalidTokenError, MalformedTokenError, Token, read_token
from oda_proxy.errors import BadQueryError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from mock_server.library import Library
    from mock_server.settings import MockSettings
    from oda_proxy.fixture import Fixture

_SESSION_LETTERS: Final = string.ascii_uppercase + string.digits
_SESSION_LENGTH: Final = 16
_BAD_REQUEST: Final = 400
_FORBIDDEN: Final = 403
_MESSAGES: Final = ("message", "error_message", "debug_message", "warning")


class RefusedError(BadQueryError):
    """A request that the dispatcher does not begin to serve; `kind` is the name of its exception."""

    def __init__(
        self, kind: str, message: str, *, status: int = _BAD_REQUEST, debug_message: str | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.debug_message = debug_message


@dataclass(frozen=True)
class AnalysisRequest:
    """A request as it came: merged arguments, contents of files, the server's address as its client sees it."""

    arguments: Mapping[str, Any]
    address: str
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Response:
    """Status and JSON body of an answer."""

    status: int
    body: bytes


@dataclass(frozen=True)
class _Asker:
    """Who asks, and what about: what a request says beside its parameters."""

    description: Description
    product: str
    query_status: str
    session_id: str
    token_text: str | None
    token: Token | None
    time_request: float

    @property
    def subject(self) -> str | None:
        return None if self.token is None else self.token.subject


@dataclass
class Analysis:
    """Answers requests for analyses, job by job."""

    settings: MockSettings
    library: Library
    jobs: JobTable
    wall_clock: Callable[[], float]
    random: random.Random

    @property
    def _is_2019(self) -> bool:
        return self.settings.generation == "2019"

    def products_url(self, address: str) -> str:
        """Return the public address that answers quote."""
        return self.settings.products_url or f"{address}/"

    def read_token(self, text: str | None, context: str = "instrument-not-set") -> Token | None:
        """Read the token of a request, where it has one; raises RefusedError."""
        if text is None or self._is_2019:
            return None
        try:
            return read_token(text, self.settings.secret_key, self.wall_clock())
        except MalformedTokenError as error:
            raise RefusedError("RequestNotUnderstood", _constructor_failed(context, error)) from None
        except (ExpiredTokenError, InvalidTokenError) as error:
            raise RefusedError("RequestNotAuthorized", str(error), status=_FORBIDDEN, debug_message="") from None

    def description(self, arguments: Mapping[str, Any]) -> Description:
        """Return the description of the instrument that a request names; raises RefusedError."""
        if "instrument" not in arguments:
            raise RefusedError("NoInstrumentSpecified", f"have parameters: {list(arguments)} ")
        name = arguments["instrument"]
        description = self.library.descriptions.get(str(name))
        if description is None:
            known = self.library.instruments
            raise RefusedError("InstrumentNotRecognized", f'instrument: "{name}", known: {known}')
        return description

    def refuse(self, error: RefusedError, address: str) -> Response:
        """Write the answer to a request that is refused."""
        body = answers.refusal(
            error.kind,
            str(error),
            instruments=self.library.instruments,
            products_url=self.products_url(address),
            debug_message=error.debug_message,
        )
        return Response(error.status, body)

    async def answer(self, request: AnalysisRequest) -> Response:
        """Answer a request for an analysis."""
        try:
            return await self._answer(request)
        except RefusedError as error:
            if self._is_2019:
                return Response(
                    200, answers.failure(str(error), job_id="", session_id=str(request.arguments.get("session_id", "")))
                )
            return self.refuse(error, request.address)

    async def _answer(self, request: AnalysisRequest) -> Response:
        asker = self._read_asker(request.arguments)
        try:
            arguments = {**with_scw_list(request.arguments, request.files), "session_id": asker.session_id}
            parameters = (check_2019 if self._is_2019 else check)(arguments, asker.description, asker.product)
        except (ScwListError, BadParameterError) as error:
            raise RefusedError("RequestNotUnderstood", str(error)) from None
        except BadParameter2019Error as error:
            return self._failed_2019(asker, "failed: setting form parameters", str(error))
        if self._is_2019 and arguments.get("dry_run") == "True":
            return self._dry_run_2019(asker, arguments)

        computed = job_id_2019(arguments) if self._is_2019 else job_id(parameters.echo, asker.subject)
        shown = self._check_job_id(asker, arguments.get("job_id"), computed)
        recorded = self.jobs.by_id.get(shown)
        if recorded is not None and recorded.subject != asker.subject:
            derived = job_id(recorded.echo, asker.subject)
            debug_message = (
                f"The provided job_id={shown} does not match with the job_id={derived} derived from the request "
                "parameters; parameters are derived from recorded job state"
            )
            return self._forbidden(asker, shown, "Request not authorized", debug_message=debug_message)
        lacking = (
            {} if self._is_2019 else roles.missing_roles(parameters.echo, asker.token.roles if asker.token else ())
        )
        if lacking:
            text = roles.refusal_text(lacking, asker.token.roles if asker.token else ())
            return self._forbidden(asker, shown, text, comment=parameters.comment)

        question = _question(asker, parameters, arguments, request.files)
        key = (question.key(), asker.subject)
        fixture = self.library.index.find(question)
        known = self.jobs.find(key, shown)
        if known is not None and fixture is None and asked(asker.query_status) not in ("new", "ready"):
            fixture = known.fixture  # a poll may leave out the parameters of its query
        if fixture is None:
            message = self.library.index.explain_miss(question)
            body = answers.failure(message, job_id=shown, session_id=asker.session_id, comment=parameters.comment)
            return Response(200 if self._is_2019 else _BAD_REQUEST, body)
        job, reply = self.jobs.ask(key, self._job(asker, computed, parameters, fixture), asker.query_status, shown)
        return await self._reply(asker, job, reply, parameters, shown, request.address)

    def _read_asker(self, arguments: Mapping[str, Any]) -> _Asker:
        """Read who asks, in the order in which the dispatcher finds faults; raises RefusedError."""
        text = arguments.get("token")
        token_text = text if text is None else str(text)
        token = self.read_token(token_text) if token_text not in ("", "None") else None
        description = self.description(arguments)
        if token_text in ("", "None"):
            token = self.read_token(token_text, description.name)
        session_id = str(arguments.get("session_id") or "new")
        if session_id == "new":
            session_id = "".join(self.random.choices(_SESSION_LETTERS, k=_SESSION_LENGTH))
        if "query_status" not in arguments:
            raise RefusedError("RequestNotUnderstood", _constructor_failed(description.name, "'query_status'"))
        for name in ("product_type", "query_type"):
            if name not in arguments:
                raise RefusedError("MissingRequestParameter", f"KeyError('{name}')")
        product = str(arguments["product_type"])
        try:
            description.product_query(product)
        except UnknownProductError as error:
            raise RefusedError("RequestNotUnderstood", _constructor_failed(description.name, error)) from None
        return _Asker(
            description=description,
            product=product,
            query_status=str(arguments["query_status"]),
            session_id=session_id,
            token_text=token_text,
            token=token,
            time_request=self.wall_clock(),
        )

    def _check_job_id(self, asker: _Asker, given: Any, computed: str) -> str:
        """Return the job_id that the answer shows, once the request's fits it; raises RefusedError."""
        if "/" in asker.session_id:
            folder = f"scratch_sid_{asker.session_id}_jid_{computed}"
            failure = ("!Error error ", FileNotFoundError(2, "No such file or directory"), "in creating dir", folder)
            raise RefusedError("RequestNotUnderstood", _constructor_failed(asker.description.name, failure))
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

    def _forbidden(
        self, asker: _Asker, shown: str, message: str, *, debug_message: str = "", comment: str = ""
    ) -> Response:
        exit_status = ExitStatus("failed", 1, message, debug_message=debug_message, comment=comment)
        return self._write(asker, "failed", exit_status, self._bare_monitor(asker, shown, "failed"), status=_FORBIDDEN)

    def _failed_2019(self, asker: _Asker, message: str, error_message: str) -> Response:
        exit_status = ExitStatus("failed", 1, message, error_message)
        return self._write(asker, "failed", exit_status, self._bare_monitor(asker, "", "failed"))

    def _dry_run_2019(self, asker: _Asker, arguments: Mapping[str, Any]) -> Response:
        described = checked_parameters(asker.description, asker.product, arguments)
        monitor = self._bare_monitor(asker, job_id_2019(arguments), "done")
        bookkeeping = {"instrumet_parameters": described}
        return self._write(asker, "done", ExitStatus("done", message="dry-run"), monitor, bookkeeping=bookkeeping)

    def _bare_monitor(self, asker: _Asker, shown: str, status: str) -> dict[str, Any]:
        return {"job_id": shown, "session_id": asker.session_id, "status": status}

    def _write(
        self,
        asker: _Asker,
        query_status: str,
        exit_status: ExitStatus,
        monitor: Mapping[str, Any],
        *,
        status: int = 200,
        products: bytes = b"",
        bookkeeping: Mapping[str, Any] | None = None,
    ) -> Response:
        answer = Answer(
            query_status=query_status,
            exit_status=exit_status,
            job_monitor=monitor,
            session_id=asker.session_id,
            time_request=None if self._is_2019 else asker.time_request,
            http_status=status,
            bookkeeping=bookkeeping or {},
        )
        return Response(status, answer.body(products))

    def _job(self, asker: _Asker, computed: str, parameters: Parameters, fixture: Fixture) -> Job:
        """Make the job that a query begins if there is none."""
        recorded = fixture.answer()
        scale = self.settings.time_scale
        is_synchronous = scale == 0 or asker.description.product_query(asker.product).synchronous
        return Job(
            job_id=computed,
            session_id=asker.session_id,
            subject=asker.subject,
            echo=parameters.echo,
            fixture=fixture,
            timeline=() if is_synchronous else tuple((state, seconds * scale) for state, seconds in recorded.timeline),
            outcome="failed" if recorded.query_status == "failed" else "ready",
            begun=self.jobs.clock(),
            time_request=asker.time_request,
        )

    async def _reply(
        self, asker: _Asker, job: Job, reply: Reply, parameters: Parameters, shown: str, address: str
    ) -> Response:
        recorded = job.fixture.answer()
        bookkeeping: dict[str, Any] = {}
        products = b""
        exit_status = ExitStatus(reply.job_status, comment=parameters.comment)
        if reply.job_status == "unaccessible":
            exit_status = ExitStatus("unaccessible", 1, "failed: submitted job", comment=parameters.comment)
        if reply.ran:
            if reply.has_products:
                products = await self._products(asker, job, parameters, shown, address)
                bookkeeping |= {"prod_process_message": "", "session_id": job.session_id, "job_id": shown}
            if reply.query_status == "failed":
                told = {name: str(recorded.exit_status.get(name, "")) for name in _MESSAGES}
                exit_status = ExitStatus("failed", 1, comment=parameters.comment, **told)
            else:
                default = parameters.echo.get("scw_list") or []
                bookkeeping["input_prod_list"] = recorded.products.get("input_prod_list", default)
            echo_name = "analysis_paramters" if self._is_2019 else "analysis_parameters"
            bookkeeping[echo_name] = parameters.echo
            bookkeeping["api_code"] = answers.api_code(parameters.echo, self.products_url(address))
        monitor = answers.job_monitor(
            job,
            job_id=shown,
            status=reply.job_status,
            reports=() if reply.job_status in ("done", "unaccessible") else job.reports(self.jobs.clock()),
            token=asker.token_text,
        )
        return self._write(asker, reply.query_status, exit_status, monitor, products=products, bookkeeping=bookkeeping)

    async def _products(self, asker: _Asker, job: Job, parameters: Parameters, shown: str, address: str) -> bytes:
        if not self._is_2019:
            for_1_0 = "oda_api_version" not in parameters.echo
            return await self.library.products(job.fixture, for_1_0=for_1_0)
        cards = {name: str(value) for name, value in parameters.echo.items()}
        cards |= {"job_id": shown, "session_id": asker.session_id}
        cards["url"] = f"{self.products_url(address)}?{urlencode(parameters.echo)}"
        return await self.library.products_2019(job.fixture, cards)


def _question(
    asker: _Asker, parameters: Parameters, arguments: Mapping[str, Any], files: Mapping[str, bytes]
) -> Question:
    return Question(
        instrument=asker.description.name,
        product=asker.product,
        query_type=str(arguments["query_type"]),
        parameters=parameters.decisive,
        api="api" in arguments,
        files={name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != SCW_LIST_FILE},
    )


def _constructor_failed(context: str, reason: object) -> str:
    return f"[ InstrumentQueryBackEnd : {context} ] constructor failed: {reason}"
