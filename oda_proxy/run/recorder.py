"""Recording a run: requests go to dispatchers and other servers, and their answers to a capsule as they arrive."""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yarl import URL

from oda_proxy.capsule import exchange
from oda_proxy.capsule.errors import CapsuleError
from oda_proxy.capsule.secrets import credentials_in, may_hold_secret
from oda_proxy.capsule.writer import CapsuleWriter
from oda_proxy.config import PRODUCTION
from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.http.answer import buffered
from oda_proxy.proxy import Policy, Proxy, Services
from oda_proxy.query.descriptions import Descriptions
from oda_proxy.recordings.redaction import NotStorableError
from oda_proxy.run.dispatcher_requests import is_description, public_description
from oda_proxy.run.listeners import command_listeners, relay
from oda_proxy.store.disk import DiskStore
from oda_proxy.upstream.any_server import AnyServer, ServerUnreachableError
from oda_proxy.upstream.description_cache import DescriptionCache
from oda_proxy.upstream.dispatcher import Dispatcher
from oda_proxy.upstream.throttling import ThrottledUpstream
from oda_proxy.upstream.trust import trusted_bundle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from oda_proxy.capsule.writer import DispatcherWriter
    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Request
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.recordings.failures import Failure
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.run.forwarded_request import ForwardedRequest, Origin
    from oda_proxy.run.listeners import Listeners, OpenListeners

MAX_CONCURRENT, RATE = 32, 20.0
"""Concurrent requests to a dispatcher, and requests per second."""

DESCRIPTION_TTL = 300.0
"""Seconds that a description is cached during the run."""

_INTERMEDIATE = frozenset({"", "failed", "not-done", "poll", "running", "stale"})
"""`Cache-Status` details of answers that need not be recorded: they are no products, or others follow."""

_REASONS = {
    "credentials": "requested with a cookie or a password",
    "echo-differs": "the dispatcher answered another query",
    "encoded": "compressed in a way that cannot be read",
    "method": "only GET is recorded",
    "not-a-query": "not a query that can be read",
    "not-api": "a page for a browser",
    "partial": "products of a job that was not done",
    "secret-in-address": "there may be a secret in its address",
    "spool-full": "the temporary folder has no room for it",
    "status": "neither a success nor a redirect",
    "token": "requested with a token that cannot be read",
    "too-large": "too large",
    "unreachable": "it could not be reached",
}


@dataclass(slots=True)
class RunSummary:
    """What was recorded of a run, and what was not."""

    recordings: int = 0
    size: int = 0
    """Bytes of the recordings in the wire form."""
    failures: int = 0
    descriptions: set[tuple[str, str]] = field(default_factory=set)
    """Recorded descriptions, by path and query of the request."""
    exchanges: set[str] = field(default_factory=set)
    """Recorded answers of other servers, by name in the capsule."""
    private: int = 0
    """Answers that were left out because they were requested with a token."""
    command: tuple[str, ...] = ()
    """The recorded command, without secrets."""
    not_recorded: Counter[str] = field(default_factory=Counter)
    """Answers that were not recorded, with the reason, one line each, and how often."""

    def note_not_recorded(self, what: str, reason: object) -> None:
        """Count an answer that was not recorded; `reason` is a short word, or an error."""
        word = str(reason)
        self.not_recorded[f"{what}: {_REASONS.get(word, word)}"] += 1


class Recorder:
    """Answers the requests of a command from their servers, and records the answers.

    `exit_status` is the exit status of the command for the capsule; while it is None, the run counts as interrupted.
    """

    listeners: Listeners

    def __init__(self, writer: CapsuleWriter, upstream: str | None, servers: AnyServer, stack: AsyncExitStack) -> None:
        """Record with `writer`; `upstream` replaces all dispatchers, where it is set."""
        self.exit_status: int | None = None
        self.summary = RunSummary()
        self._writer = writer
        self._upstream = upstream
        self._servers = servers
        self._stack = stack
        self._proxies: dict[str, tuple[Proxy, DispatcherWriter]] = {}
        self._lock = asyncio.Lock()

    @property
    def dispatchers(self) -> tuple[str, ...]:
        """The addresses of the dispatchers that requests were sent to."""
        return tuple(self._proxies)

    async def answer_dispatcher(self, address: str | None, request: Request, *, origin: str) -> Answer:
        """Answer a request to a dispatcher through a proxy for it."""
        await self._note_credentials(request)
        is_named = address is not None and self._upstream is None
        proxy, writer = await self._proxy(self._upstream or address or PRODUCTION, is_named=is_named)
        if address is not None:
            writer.add_address(address)
        if version := _client_version(request):
            self._writer.note_version("oda_api", version)
        if public := public_description(request):  # a replay may have no token
            answer = await proxy.answer(public, origin=origin)
            await answer.close()
            if answer.cache_status.stored:
                self.summary.descriptions.add((public.path, public.query_string))
        answer = await proxy.answer(request, origin=origin)
        status = answer.cache_status
        if status.stored and is_description(request):
            self.summary.descriptions.add((request.path, request.query_string))
        if public is None and not (status.hit or status.stored):
            if status.detail not in _INTERMEDIATE:
                self.summary.note_not_recorded(f"{request.method} {request.path}", status.detail)
            elif status.forwarded == "bypass" and not status.detail:
                reason = "neither products nor a description"
                self.summary.note_not_recorded(f"{request.method} {request.path}", reason)
        return answer

    async def answer_other(self, forwarded: ForwardedRequest) -> Answer:
        """Answer a request to another server, and record the answer where it is public."""
        request = forwarded.request
        await self._note_credentials(request)
        what = f"{request.method} {_without_query(forwarded)}"
        try:
            exchange.check_request(request.method, forwarded.url, request.headers)
        except NotStorableError as reason:
            self.summary.note_not_recorded(what, reason)
            return await relay(self._servers, forwarded)
        request = replace(request, headers=exchange.identity_encoding(request.headers))
        try:
            answer = await relay(self._servers, replace(forwarded, request=request))
            exchange.check_answer(answer.status, answer.headers)
            answer = await buffered(answer, exchange.MAX_BODY)
            if not isinstance(answer.body, tuple):
                raise NotStorableError("too-large")  # noqa: TRY301 - handled like the other reasons
            body = b"".join(answer.body)
            recorded = exchange.exchange_from_answer(
                forwarded.url, request.headers, answer.status, answer.headers, body, when=time.time()
            )
            document = json.loads(exchange.to_json(recorded))
            await asyncio.to_thread(self._writer.save_exchange, recorded.name, document, body)
            self._writer.count_exchange_use(recorded.name)
            self.summary.exchanges.add(recorded.name)
        except (NotStorableError, CapsuleError) as reason:
            self.summary.note_not_recorded(what, reason)
        except (ServerUnreachableError, UpstreamUnreachableError) as error:
            self.summary.note_not_recorded(what, error.detail)
            raise
        return answer

    async def observe_local(self, request: Request) -> None:
        """Note credentials in a request to a server on this machine."""
        await self._note_credentials(request)

    async def _note_credentials(self, request: Request) -> None:
        """Remove the credentials of a request from the recorded command."""
        if credentials := credentials_in(request):
            try:
                await asyncio.to_thread(self._writer.add_credentials, credentials)
            except CapsuleError as error:
                self.summary.note_not_recorded("the command", error)

    async def is_untrusted(self, origin: Origin) -> bool:
        """Tell whether the certificate of a server is not trusted: then it is up to the program to refuse it."""
        return await self._servers.is_untrusted(str(origin))

    def note_unfinished_jobs(self) -> None:
        """Count the jobs that are still running as not recorded."""
        for proxy, _ in self._proxies.values():
            for running in proxy.jobs:
                self.summary.note_not_recorded(_product(running.resolved), "its job was still running at the end")

    async def _proxy(self, url: str, *, is_named: bool) -> tuple[Proxy, DispatcherWriter]:
        """Return the proxy for a dispatcher, which the command may have named, and the writer for its answers."""
        async with self._lock:
            if url not in self._proxies:
                writer = self._writer.dispatcher(url)
                self._proxies[url] = await self._make_proxy(url, writer, is_named=is_named), writer
            return self._proxies[url]

    async def _make_proxy(self, url: str, writer: DispatcherWriter, *, is_named: bool) -> Proxy:
        """Make a proxy whose recordings last as long as the run, on disk since they may be large."""
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="oda-proxy-")))
        store = self._stack.enter_context(closing(DiskStore(folder)))
        # A command that named a dispatcher has checked its certificate, or does not want to.
        verify = not (is_named and url.startswith("https:") and await self._servers.is_untrusted(_origin(url)))
        dispatcher = await self._stack.enter_async_context(Dispatcher(url, verify=verify))
        upstream = ThrottledUpstream(dispatcher, max_concurrent=MAX_CONCURRENT, rate=RATE)
        services = Services(
            instruments=Descriptions(upstream, writer.folder, ttl=DESCRIPTION_TTL, clock=time.monotonic),
            description_cache=DescriptionCache(DESCRIPTION_TTL, time.time, writer.folder),
            observer=_RecordingObserver(writer, self.summary),
        )
        proxy = Proxy(store, upstream, Policy(description_ttl=DESCRIPTION_TTL), services=services)
        self._stack.push_async_callback(proxy.close)
        return proxy


@asynccontextmanager
async def recording(
    folder: Path,
    *,
    command: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    upstream: str | None = None,
    include_private: bool = False,
    replace: bool = False,
    listen: OpenListeners | None = None,
) -> AsyncIterator[Recorder]:
    """Record into a capsule in `folder` until the block ends.

    Parameters
    ----------
    command, environment
        The command for the manifest, and its environment, which may hold secrets that the command repeats.
    upstream
        Dispatcher that replaces those of the command.
    include_private
        Also record answers that were requested with a token.
    replace
        The folder may hold a capsule, which is removed.
    listen
        Opens the listeners; None opens all, whose programs trust what the environment of this process trusts, too.

    Raises
    ------
    NotACapsuleError, CapsuleError
        The folder cannot be written to.
    ListenError
        There is no free port.
    """
    writer = CapsuleWriter(
        folder, command=command, environment=environment, include_private=include_private, replace=replace
    )
    recorder: Recorder | None = None
    try:
        async with AsyncExitStack() as stack:
            servers = await stack.enter_async_context(AnyServer(use_env_proxies=True))
            recorder = Recorder(writer, upstream, servers, stack)
            if listen is None:
                bundle = await asyncio.to_thread(trusted_bundle, os.environ)
                listen = partial(command_listeners, trusted=bundle, is_untrusted=recorder.is_untrusted)
            async with listen(recorder) as recorder.listeners:
                yield recorder
            recorder.note_unfinished_jobs()
    finally:
        if recorder is not None:
            recorder.summary.private = writer.private_left_out
            recorder.summary.command = writer.command
            if recorder.exit_status is not None:
                await asyncio.to_thread(writer.finish, recorder.exit_status)


class _RecordingObserver:
    """Writes what a proxy stores to the capsule."""

    def __init__(self, writer: DispatcherWriter, summary: RunSummary) -> None:
        self._writer = writer
        self._summary = summary

    async def stored(self, recording: Recording) -> None:
        """Save a recording."""
        if await self._save(self._writer.save_recording, recording):
            self._summary.recordings += 1
            self._summary.size += recording.head.size
            self._writer.count_use(recording.key)

    async def served(self, recording: Recording) -> None:
        """Count a use of a recording."""
        self._writer.count_use(recording.key)

    async def failed(self, resolved: ResolvedQuery, failure: Failure | None) -> None:
        """Save a failure."""
        if failure is None:
            self._summary.note_not_recorded(f"a failure of {_product(resolved)}", "it names the user")
        elif await self._save(self._writer.save_failure, failure):
            self._summary.failures += 1
            self._writer.count_use(resolved.key)

    async def missed(self, resolved: ResolvedQuery, message: str) -> None:
        """Do nothing: while recording, there always is an upstream."""

    async def _save(self, save: Callable[[Any], bool], item: Any) -> bool:
        try:
            return await asyncio.to_thread(save, item)
        except CapsuleError as error:
            self._summary.note_not_recorded("an answer", error)
            return False


def _without_query(forwarded: ForwardedRequest) -> str:
    """Return a URL without its query, and without its path where that may hold a secret."""
    address = forwarded.url.partition("?")[0]
    return str(forwarded.origin) if may_hold_secret(address) else address


def _origin(url: str) -> str:
    return str(URL(url).origin())


def _product(resolved: ResolvedQuery) -> str:
    return f"{resolved.query.instrument} {resolved.query.product_type}"


_VERSION = re.compile(r"(?:^|&)oda_api_version=([\w.]{1,40})(?:&|$)")


def _client_version(request: Request) -> str | None:
    """Return the version that a client sends; clients up to 1.1.0 send none."""
    form = request.body.decode("latin-1") if isinstance(request.body, bytes) else ""
    found = _VERSION.search(request.query_string) or _VERSION.search(form)
    return found[1] if found else None
