"""Simulated time, with a dispatcher whose jobs follow a plan and clients that ask through a proxy.

In `Loop`, time passes only while every task waits: a job of a day takes a few ms, and a scenario is the same each time.
Functions that run in threads elsewhere run in turns of the loop.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import selectors
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, TypeVarTuple, Unpack
from urllib.parse import parse_qsl

import jwt

from oda_proxy.errors import UpstreamSlowError
from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.http.message import Request
from oda_proxy.jobs.policy import JobPolicy
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.proxy import Proxy
from oda_proxy.query.audience import Sharing, TokenVerifier
from oda_proxy.query.multipart import MULTIPART, read_form
from oda_proxy.store.freshness import Freshness
from oda_proxy.store.memory import MemoryStore
from tests.support.dispatcher_responses import answer, json_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
    from concurrent.futures import Executor

    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Headers

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

START: Final = 1_700_000_000.0
ORIGIN: Final = "http://127.0.0.1:8400"
QUERY: Final = "instrument=isgri&product_type=isgri_image&query_type=Real&RA=83.0&api=True"
JSON: Final = (("Content-Type", "application/json"),)
HTML: Final = (("Content-Type", "text/html"),)
STATES: Final = {"new", "submitted", "progress", "ready", "done", "failed"}
KEY: Final = "a key of a dispatcher that is long enough for HS256"


# -- time ------------------------------------------------------------------------------------------


class DeadlockError(Exception):
    """Every task waits for another one, or a scenario does not end."""


class _Selector(selectors.SelectSelector):
    """Advances the time instead of waiting."""

    def __init__(self, passed: Callable[[float], None]) -> None:
        super().__init__()
        self._passed = passed

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise DeadlockError("every task waits, and no timer is set")
            self._passed(timeout)
        return ready


class Loop(asyncio.SelectorEventLoop):
    """A loop with simulated time; `turns` returns how long the next turn of a thread takes, in s."""

    LONGEST: Final = 30 * 86400.0

    def __init__(self, turns: Callable[[], float] = lambda: 0.0) -> None:
        self._now = 0.0
        self._turns = turns
        super().__init__(_Selector(self._pass))

    def time(self) -> float:
        return self._now

    def _pass(self, seconds: float) -> None:
        self._now += seconds
        if self._now > self.LONGEST:
            raise DeadlockError("the scenario takes a month")

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run a function in a later turn, and set its result in a turn after that."""
        future: asyncio.Future[T] = self.create_future()

        def run() -> None:
            try:
                result = func(*args)
            except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
                self.call_later(self._turns(), deliver, functools.partial(future.set_exception, error))
            else:
                self.call_later(self._turns(), deliver, functools.partial(future.set_result, result))

        def deliver(what: Callable[[], None]) -> None:
            if not future.cancelled():
                what()

        self.call_later(self._turns(), run)
        return future


def simulate(scenario: Coroutine[Any, Any, T], turns: Callable[[], float] = lambda: 0.0) -> T:
    """Run a scenario in simulated time."""
    with asyncio.Runner(loop_factory=lambda: Loop(turns)) as runner:
        return runner.run(scenario)


def simulated(scenario: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make a coroutine function a test in simulated time."""

    @functools.wraps(scenario)
    def test(*args: P.args, **kwargs: P.kwargs) -> None:
        simulate(scenario(*args, **kwargs))

    return test


def now() -> float:
    """Return the simulated time, in s since 1970 (UTC)."""
    return START + asyncio.get_running_loop().time()


def elapsed() -> float:
    """Return how long the scenario has run, in s."""
    return asyncio.get_running_loop().time()


# -- the dispatcher --------------------------------------------------------------------------------


@dataclass
class Body:
    """A body in two pieces; it may break between them."""

    content: bytes
    breaks: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content[:100]
        if self.breaks:
            raise self.breaks
        yield self.content[100:]

    async def aclose(self) -> None:
        """Do nothing."""


@dataclass
class Reply:
    status: int
    headers: Headers
    body: Body


def reply(value: Any, *, status: int = 200, headers: Headers = JSON) -> Reply:
    """Make a reply of a JSON value, or of bytes."""
    return Reply(status, headers, Body(value if isinstance(value, bytes) else json_bytes(value)))


def bad_gateway(status: int = 502) -> Reply:
    return reply(b"<html><body><h1>502 Bad Gateway</h1></body></html>", status=status, headers=HTML)


def refusal(text: str, status: int) -> Reply:
    """Return the error of dispatcher 1.3.6 for a request without a job."""
    return reply({"error": f"{text}()", "error_message": text}, status=status)


@dataclass(frozen=True)
class DispatcherRequest:
    """One request for an analysis, as the dispatcher receives it."""

    number: int
    """Counted from 1."""
    at: float
    fields: Mapping[str, str]
    timeout: float | None
    at_most_once: bool | None
    files: tuple[tuple[str, str], ...] = ()
    """Uploaded files: field and SHA-256."""

    @property
    def status(self) -> str:
        return self.fields.get("query_status", "")

    @property
    def job_id(self) -> str:
        return self.fields.get("job_id", "")

    @property
    def session_id(self) -> str:
        return self.fields.get("session_id", "")

    @property
    def token(self) -> str:
        return self.fields.get("token", "")

    @property
    def subject(self) -> str:
        return str(jwt.decode(self.token, options={"verify_signature": False})["sub"]) if self.token else ""

    @property
    def name(self) -> str:
        """The job_id of the query: the same for all clients with the same subject."""
        who = {"query_status", "job_id", "session_id", "token", "oda_api_version", "off_line"}
        what = sorted((name, value) for name, value in self.fields.items() if name not in who)
        return hashlib.sha256(json.dumps([what, self.subject]).encode()).hexdigest()[:16]


@dataclass
class DispatcherJob:
    """A job at the dispatcher, and the request that submitted it."""

    started_at: float
    owner: DispatcherRequest


Plan = dict[float, str]
"""The state of a job from a time on, in s after its submission: `submitted`, `progress`, `ready` or `failed`.

`done` at 0 is a synchronous instrument: the answer to `new` has the products.
"""


@dataclass
class Dispatcher:
    """An upstream whose jobs follow a plan, unless `instead` returns another reply to a request."""

    plan: Plan = field(default_factory=lambda: {0.0: "submitted", 10.0: "progress", 60.0: "ready"})
    latency: float = 0.05
    """Seconds that each answer takes."""
    instead: Callable[[DispatcherRequest], Reply | Exception | None] = lambda _: None
    revoked: set[str] = field(default_factory=set)
    """Tokens that it refuses."""
    products: Callable[[DispatcherRequest], Mapping[str, Any]] = lambda _: {}
    """Members of the products in place of those of `answers.answer`."""
    reporting: float = 0.0
    """Seconds between two reports of a job; 0 for none."""
    requests: list[DispatcherRequest] = field(default_factory=list)
    jobs: dict[str, DispatcherJob] = field(default_factory=dict)
    url: str = "http://dispatcher.example/dispatch-data"

    async def send(self, sent: Request) -> Reply:
        fields, files = _read(sent)
        number = len(self.requests) + 1
        request = DispatcherRequest(number, elapsed(), fields, sent.timeout, sent.at_most_once, files)
        self.requests.append(request)
        if sent.timeout is not None and self.latency > sent.timeout:
            await asyncio.sleep(sent.timeout)
            raise UpstreamSlowError(self.url, "no answer")
        await asyncio.sleep(self.latency)
        instead = self.instead(request)
        if isinstance(instead, Exception):
            raise instead
        return instead or self._reply(request)

    @property
    def submissions(self) -> list[DispatcherRequest]:
        """The requests that submitted a job."""
        return [request for request in self.requests if request.status == "new"]

    @property
    def polls(self) -> list[DispatcherRequest]:
        """The requests for the state of a job."""
        return [request for request in self.requests if request.status not in {"new", "ready"}]

    def forget(self) -> None:
        """Forget all jobs, as a dispatcher does whose folders were removed."""
        self.jobs.clear()

    def _reply(self, request: DispatcherRequest) -> Reply:
        if request.token in self.revoked:
            return refusal("The token provided is not valid", 403)
        if request.status not in STATES or (request.status != "new" and not request.job_id):
            return refusal("bad request: no such state, or no job_id", 400)
        return self._reply_for_job(request)

    def _reply_for_job(self, request: DispatcherRequest) -> Reply:
        if request.status == "new" and request.job_id not in {"", request.name}:
            return refusal(f"job_id {request.job_id} is not of this query", 400)
        if request.status == "new":
            job = self.jobs[request.name] = DispatcherJob(elapsed(), request)
            state = self._state(job)
            return reply(self._answer(request, job, "done" if state == "done" else state))
        if request.job_id not in self.jobs:
            return refusal(f"unable to find any record for {request.job_id}", 400)
        job = self.jobs[request.job_id]
        if job.owner.subject != request.subject:
            return reply(self._failed(request, "Request not authorized"), status=403)
        state = self._state(job)
        return reply(self._answer(request, job, "done" if request.status == state == "ready" else state))

    def _state(self, job: DispatcherJob) -> str:
        return [state for at, state in sorted(self.plan.items()) if at <= elapsed() - job.started_at][-1]

    def _answer(self, request: DispatcherRequest, job: DispatcherJob, state: str) -> dict[str, Any]:
        if state == "failed":
            return self._failed(request, "" if request.job_id else "failed: get dataserver products")
        who = {"session_id": request.session_id, "job_id": request.name}
        echo = {**request.fields, **who, "RA": float(request.fields["RA"]), "token": request.token or None}
        products = {
            "analysis_parameters": echo,
            **who,
            "api_code": f"token = {request.token!r}\n",
            **self.products(request),
        }
        response = answer(query_status=state, products=products, session_id=request.session_id, job_status=state)
        monitor = {**who, "session_id": job.owner.session_id, "status": state}
        reports = [self._report(request, job, number) for number in range(self._reported(job))]
        response = {**response, "job_monitor": {**monitor, "full_report_dict_list": reports}}
        return response if state == "done" else {**response, "products": {}}

    def _failed(self, request: DispatcherRequest, message: str) -> dict[str, Any]:
        status = {**answer()["exit_status"], "status": int(bool(message)), "message": message, "job_status": "failed"}
        monitor = {"job_id": request.name, "session_id": request.session_id, "status": "failed"}
        response = answer(query_status="failed", session_id=request.session_id, job_status="failed")
        return {**response, "exit_status": status, "job_monitor": monitor, "products": {}}

    def _reported(self, job: DispatcherJob) -> int:
        return int((elapsed() - job.started_at) / self.reporting) if self.reporting else 0

    def _report(self, request: DispatcherRequest, job: DispatcherJob, number: int) -> dict[str, Any]:
        """Return a report as a call-back writes it: with every field of the request that submitted the job."""
        return {
            **job.owner.fields,
            "action": "progress",
            "node_id": f"node_{number}",
            "message": "processing",
            "progress": number,
            "job_id": request.name,
            "time_original_request": START + job.started_at,
        }


def _read(sent: Request) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """Return the fields and files of a request."""
    content_type = dict(sent.headers).get("Content-Type", "")
    if isinstance(sent.body, bytes) and content_type.startswith(MULTIPART):
        fields, files = read_form(content_type, sent.body)
        return dict(fields), tuple(files)
    return dict(parse_qsl(sent.body.decode() if isinstance(sent.body, bytes) else sent.query_string)), ()


# -- its clients -----------------------------------------------------------------------------------


def token(sub: str = "somebody@example.org", *, roles: str = "general", expires: float = 1e6, key: str = KEY) -> str:
    """Return a token that expires some s after the start of a scenario."""
    return jwt.encode({"sub": sub, "roles": roles, "exp": START + expires}, key, "HS256")


@dataclass(frozen=True)
class Response:
    """An answer to a client, and when it came."""

    at: float
    status: int
    cache_status: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def state(self) -> str:
        return str(self.json["query_status"])

    @property
    def job_id(self) -> str:
        return str(self.json["job_monitor"]["job_id"])

    @property
    def session_id(self) -> str:
        return str(self.json["session_id"])

    @property
    def message(self) -> str:
        """What releases before 1.1.46 show; later ones show the same, or `error` or `error_message`."""
        return str(self.json["exit_status"]["message"])

    @property
    def reports(self) -> list[Any]:
        """The dispatcher's reports, without the proxy's comment, which is a report, too."""
        reports = self.json["job_monitor"].get("full_report_dict_list", [])
        return [report for report in reports if report.get("node") != "oda-proxy"]

    @property
    def number(self) -> str:
        """The products as text, to compare two answers."""
        return json.dumps(self.json["products"].get("numpy_data_product_list"))


@dataclass
class Client:
    """A client since 1.1.46: sends `new`, then polls every second with the last state until that is final."""

    proxy: Proxy
    session_id: str = "SESSIONOFTHEFIRST"
    token: str = ""
    query: str = QUERY
    headers: Headers = ()
    file: bytes = b""
    """A catalogue to upload with each request."""
    responses: list[Response] = field(default_factory=list)

    async def ask(self, status: str = "new", job_id: str = "", **more: str) -> Response:
        """Send one request."""
        given = {"query_status": status, "session_id": self.session_id, "job_id": job_id, "token": self.token, **more}
        query = "&".join([self.query, *(f"{name}={value}" for name, value in given.items() if value)])
        request = Request("GET", "/run_analysis", query, self.headers)
        if self.file:
            request = upload(query, self.file, self.headers)
        answer = await self.proxy.answer(request, origin=ORIGIN)
        response = Response(elapsed(), answer.status, str(answer.cache_status), await _body(answer))
        self.responses.append(response)
        return response

    async def get_product(self) -> Response:
        """Poll until the end; the job_id must not change, as for real clients."""
        response = await self.ask()
        while response.state not in {"done", "failed"} or response.status in {502, 503, 504}:
            await asyncio.sleep(10.0 if response.status in {502, 503, 504} else 1.0)
            asked_for = response.job_id
            response = await self.ask("submitted" if response.state == "failed" else response.state, asked_for)
            assert response.job_id == asked_for or response.state == "failed"
        return response

    @property
    def states(self) -> list[str]:
        return [response.state for response in self.responses]

    @property
    def job_ids(self) -> set[str]:
        return {response.job_id for response in self.responses}


def upload(query: str, file: bytes, headers: Headers = ()) -> Request:
    """Return a request that uploads a catalogue with the fields of a query."""
    parts = [
        f'--xYz\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in parse_qsl(query)
    ]
    head = '--xYz\r\nContent-Disposition: form-data; name="user_catalog_file"; filename="c.fits"\r\n\r\n'
    body = f"{''.join(parts)}{head}".encode() + file + b"\r\n--xYz--\r\n"
    return Request("POST", "/run_analysis", "", (*headers, ("Content-Type", f"{MULTIPART}; boundary=xYz")), body)


async def _body(answer: Answer) -> bytes:
    if isinstance(answer.body, tuple):
        return b"".join(answer.body)
    return b"".join([piece async for piece in answer.body])


@asynccontextmanager
async def proxied(
    dispatcher: Dispatcher,
    *,
    store: MemoryStore | None = None,
    secret_key: str | None = KEY,
    sharing: Sharing = Sharing.SUBJECT,
    trust: float = 300.0,
    freshness: Freshness | None = None,
    open_routes: frozenset[str] = frozenset(),
    **job_policy: Any,
) -> AsyncIterator[Proxy]:
    """Put a proxy before a dispatcher; no task of it may outlive the block."""
    tokens = TokenVerifier(sharing, secret_key=secret_key, trust=trust, clock=now)
    policy = Policy(open_routes, freshness=freshness or Freshness(), jobs=JobPolicy(**job_policy))
    proxy = Proxy(
        store or MemoryStore(clock=now),
        dispatcher,
        policy,
        services=Services(tokens=tokens),
        runtime=Runtime(clock=now),
    )
    before = asyncio.all_tasks()
    try:
        yield proxy
    finally:
        await proxy.close()
    assert asyncio.all_tasks() <= before


async def together(clients: Iterable[Client]) -> list[Response]:
    """Run `get_product` of several clients at the same time."""
    return list(await asyncio.gather(*(client.get_product() for client in clients)))


def crowd(proxy: Proxy, many: int, **more: Any) -> list[Client]:
    """Return clients with different sessions."""
    return [Client(proxy, f"SESSION{number:09d}", **more) for number in range(many)]
