"""A dispatcher whose jobs go as a test says, clients that ask through a proxy, and a loop in which no time is lost.

In `Loop` time passes only while everybody waits for it: a job of a day is over in a blink, and the same story is told
the same way each time. What runs in threads elsewhere runs in turns of the loop.
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
from oda_proxy.http.message import Request
from oda_proxy.proxy import Policy, Proxy
from oda_proxy.query.audience import Sharing, TokenVerifier
from oda_proxy.store.memory import MemoryStore
from tests.support.answers import answer, written

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
KEY: Final = "a key of a dispatcher that is long enough for HS256"


# -- time ------------------------------------------------------------------------------------------


class NobodyActsError(Exception):
    """Everybody waits for somebody else, or a story does not end."""


class _Selector(selectors.SelectSelector):
    """Instead of waiting, has the time be over."""

    def __init__(self, passed: Callable[[float], None]) -> None:
        super().__init__()
        self._passed = passed

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise NobodyActsError("everybody waits, and nothing will happen")
            self._passed(timeout)
        return ready


class Loop(asyncio.SelectorEventLoop):
    """A loop in which waiting takes no time; `turns` says how long the next turn of a thread takes, in s."""

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
            raise NobodyActsError("the story takes a month")

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run a function in a later turn, and deliver what comes of it in a turn after that."""
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


def play(story: Coroutine[Any, Any, T], turns: Callable[[], float] = lambda: 0.0) -> T:
    """Tell a story in no time."""
    with asyncio.Runner(loop_factory=lambda: Loop(turns)) as runner:
        return runner.run(story)


def in_no_time(story: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make a test of a story."""

    @functools.wraps(story)
    def test(*args: P.args, **kwargs: P.kwargs) -> None:
        play(story(*args, **kwargs))

    return test


def now() -> float:
    """Say what time it is in a story: s since 1970 (UTC)."""
    return START + asyncio.get_running_loop().time()


def elapsed() -> float:
    """Say how long a story has gone on, in s."""
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
        """Let go of nothing."""


@dataclass
class Reply:
    status: int
    headers: Headers
    body: Body


def reply(value: Any, *, status: int = 200, headers: Headers = JSON) -> Reply:
    """Make a reply of a JSON value, or of bytes."""
    return Reply(status, headers, Body(value if isinstance(value, bytes) else written(value)))


def bad_gateway(status: int = 502) -> Reply:
    return reply(b"<html><body><h1>502 Bad Gateway</h1></body></html>", status=status, headers=HTML)


def refusal(text: str, status: int) -> Reply:
    """Refuse as dispatcher 1.3.6 does where it has not come to a job."""
    return reply({"error": f"{text}()", "error_message": text}, status=status)


@dataclass(frozen=True)
class NormalisedQuery:
    """One request for an analysis, as the dispatcher sees it."""

    number: int
    """Counted from 1."""
    at: float
    fields: Mapping[str, str]
    timeout: float | None
    at_most_once: bool | None

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
        """The dispatcher's name for what is asked: the same for all who have the same subject."""
        who = {"query_status", "job_id", "session_id", "token", "oda_api_version", "off_line"}
        what = sorted((name, value) for name, value in self.fields.items() if name not in who)
        return hashlib.sha256(json.dumps([what, self.subject]).encode()).hexdigest()[:16]


@dataclass
class Work:
    """A job at the dispatcher, and who began it when."""

    begun: float
    owner: NormalisedQuery


Plan = dict[float, str]
"""What a job is from when on, in s after it was submitted: `submitted`, `progress`, `ready` or `failed`.

`done` at 0 is a synchronous instrument: the answer to `new` has the products.
"""


@dataclass
class Dispatcher:
    """An upstream whose jobs all go as planned, unless `instead` has another answer to a request."""

    plan: Plan = field(default_factory=lambda: {0.0: "submitted", 10.0: "progress", 60.0: "ready"})
    latency: float = 0.05
    """Seconds that each answer takes."""
    instead: Callable[[NormalisedQuery], Reply | Exception | None] = lambda _: None
    revoked: set[str] = field(default_factory=set)
    """Tokens that it does not take."""
    products: Callable[[NormalisedQuery], Mapping[str, Any]] = lambda _: {}
    """What of the products is other than `answers.answer` has it."""
    reporting: float = 0.0
    """Seconds between two reports of a job; 0 where it reports nothing."""
    asked: list[NormalisedQuery] = field(default_factory=list)
    works: dict[str, Work] = field(default_factory=dict)
    url: str = "http://dispatcher.example/dispatch-data"

    async def send(self, ask: Request) -> Reply:
        text = ask.body.decode() if isinstance(ask.body, bytes) else ask.query_string
        asked = NormalisedQuery(len(self.asked) + 1, elapsed(), dict(parse_qsl(text)), ask.timeout, ask.at_most_once)
        self.asked.append(asked)
        if ask.timeout is not None and self.latency > ask.timeout:
            await asyncio.sleep(ask.timeout)
            raise UpstreamSlowError(self.url, "no answer")
        await asyncio.sleep(self.latency)
        instead = self.instead(asked)
        if isinstance(instead, Exception):
            raise instead
        return instead or self._reply(asked)

    @property
    def submissions(self) -> list[NormalisedQuery]:
        """The requests that began a job."""
        return [asked for asked in self.asked if asked.status == "new"]

    @property
    def polls(self) -> list[NormalisedQuery]:
        """The requests that only wanted to know how a job stands."""
        return [asked for asked in self.asked if asked.status not in {"new", "ready"}]

    def forget(self) -> None:
        """Forget all jobs, as a dispatcher does whose folders were tidied up."""
        self.works.clear()

    def _reply(self, asked: NormalisedQuery) -> Reply:
        if asked.token in self.revoked:
            return refusal("The token provided is not valid", 403)
        if asked.status == "new":
            work = self.works[asked.name] = Work(elapsed(), asked)
            state = self._state(work)
            return reply(self._told(asked, work, "done" if state == "done" else state))
        if asked.job_id not in self.works:
            return refusal(f"unable to find any record for {asked.job_id}", 400)
        work = self.works[asked.job_id]
        if work.owner.subject != asked.subject:
            return reply(self._failed(asked, "Request not authorized"), status=403)
        state = self._state(work)
        return reply(self._told(asked, work, "done" if asked.status == state == "ready" else state))

    def _state(self, work: Work) -> str:
        return [state for at, state in sorted(self.plan.items()) if at <= elapsed() - work.begun][-1]

    def _told(self, asked: NormalisedQuery, work: Work, state: str) -> dict[str, Any]:
        if state == "failed":
            return self._failed(asked, "" if asked.job_id else "failed: get dataserver products")
        who = {"session_id": asked.session_id, "job_id": asked.name}
        echo = {**asked.fields, **who, "RA": float(asked.fields["RA"]), "token": asked.token or None}
        products = {
            "analysis_parameters": echo,
            **who,
            "api_code": f"token = {asked.token!r}\n",
            **self.products(asked),
        }
        told = answer(query_status=state, products=products, session_id=asked.session_id, job_status=state)
        monitor = {**who, "session_id": work.owner.session_id, "status": state}
        reports = [self._report(asked, work, number) for number in range(self._reported(work))]
        told = {**told, "job_monitor": {**monitor, "full_report_dict_list": reports}}
        return told if state == "done" else {**told, "products": {}}

    def _failed(self, asked: NormalisedQuery, message: str) -> dict[str, Any]:
        status = {**answer()["exit_status"], "status": int(bool(message)), "message": message, "job_status": "failed"}
        monitor = {"job_id": asked.name, "session_id": asked.session_id, "status": "failed"}
        told = answer(query_status="failed", session_id=asked.session_id, job_status="failed")
        return {**told, "exit_status": status, "job_monitor": monitor, "products": {}}

    def _reported(self, work: Work) -> int:
        return int((elapsed() - work.begun) / self.reporting) if self.reporting else 0

    def _report(self, asked: NormalisedQuery, work: Work, number: int) -> dict[str, Any]:
        """Give a report as a call-back leaves it: with everything of the request that began the job."""
        return {
            **work.owner.fields,
            "action": "progress",
            "node_id": f"node_{number}",
            "message": "processing",
            "progress": number,
            "job_id": asked.name,
            "time_original_request": START + work.begun,
        }


# -- its clients -----------------------------------------------------------------------------------


def token(sub: str = "somebody@example.org", *, roles: str = "general", expires: float = 1e6, key: str = KEY) -> str:
    """Make a token that is good until some s after the start of a story."""
    return jwt.encode({"sub": sub, "roles": roles, "exp": START + expires}, key, "HS256")


@dataclass(frozen=True)
class Told:
    """What a client was told, and when."""

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
        """What versions before 1.1.46 read; later ones read the same, or `error` or `error_message` beside it."""
        return str(self.json["exit_status"]["message"])

    @property
    def reports(self) -> list[Any]:
        """What the dispatcher reported; the proxy's own remark is a report, too."""
        reports = self.json["job_monitor"].get("full_report_dict_list", [])
        return [report for report in reports if report.get("node") != "oda-proxy"]

    @property
    def number(self) -> str:
        """What stands in the products: two answers with the same data have the same."""
        return json.dumps(self.json["products"].get("numpy_data_product_list"))


@dataclass
class Client:
    """A client since 1.1.46: asks `new`, then every second with what it was told last, until that is an end."""

    proxy: Proxy
    session_id: str = "SESSIONOFTHEFIRST"
    token: str = ""
    query: str = QUERY
    headers: Headers = ()
    told: list[Told] = field(default_factory=list)

    async def ask(self, status: str = "new", job_id: str = "", **more: str) -> Told:
        """Ask once."""
        given = {"query_status": status, "session_id": self.session_id, "job_id": job_id, "token": self.token, **more}
        query = "&".join([self.query, *(f"{name}={value}" for name, value in given.items() if value)])
        answer = await self.proxy.answer(Request("GET", "/run_analysis", query, self.headers), origin=ORIGIN)
        told = Told(elapsed(), answer.status, str(answer.cache_status), await _body(answer))
        self.told.append(told)
        return told

    async def get_product(self) -> Told:
        """Ask until the end; the job must keep its name, as for the client itself."""
        told = await self.ask()
        while told.state not in {"done", "failed"} or told.status in {502, 503, 504}:
            await asyncio.sleep(10.0 if told.status in {502, 503, 504} else 1.0)
            asked_for = told.job_id
            told = await self.ask("submitted" if told.state == "failed" else told.state, asked_for)
            assert told.job_id == asked_for or told.state == "failed"
        return told

    @property
    def states(self) -> list[str]:
        return [told.state for told in self.told]

    @property
    def job_ids(self) -> set[str]:
        return {told.job_id for told in self.told}


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
    **policy: Any,
) -> AsyncIterator[Proxy]:
    """Put a proxy before a dispatcher; when the story ends, nothing of it may go on."""
    tokens = TokenVerifier(sharing, secret_key=secret_key, trust=trust, clock=now)
    kept = store or MemoryStore(clock=now)
    proxy = Proxy(kept, dispatcher, Policy(**policy), tokens=tokens, clock=now, sleep=asyncio.sleep)
    before = asyncio.all_tasks()
    try:
        yield proxy
    finally:
        await proxy.close()
    assert asyncio.all_tasks() <= before


async def together(clients: Iterable[Client]) -> list[Told]:
    """Have clients get the same product at the same moment."""
    return list(await asyncio.gather(*(client.get_product() for client in clients)))


def crowd(proxy: Proxy, many: int, **more: Any) -> list[Client]:
    """Give clients, each with a session of its own."""
    return [Client(proxy, f"SESSION{number:09d}", **more) for number in range(many)]
