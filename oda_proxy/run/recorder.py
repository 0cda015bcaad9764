"""Recording a run: requests go to dispatchers and other servers, and their answers to a capsule as they arrive."""

from __future__ import annotations

import asyncio
import os
import re
import time
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yarl import URL

from oda_proxy.capsule.errors import CapsuleError, UnwritableCapsuleError
from oda_proxy.capsule.output import run_output
from oda_proxy.capsule.secrets import credentials_in
from oda_proxy.capsule.writer import CapsuleWriter
from oda_proxy.config.options import PRODUCTION
from oda_proxy.files.temporary import TemporaryFolder
from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.proxy import Proxy
from oda_proxy.query.descriptions import Descriptions
from oda_proxy.run.dispatcher_requests import forwarded_to, is_description, page_below, public_description
from oda_proxy.run.listeners import command_listeners
from oda_proxy.run.page_recorder import PagePolicy, PageRecorder
from oda_proxy.run.summary import RunSummary
from oda_proxy.store.disk import DiskStore
from oda_proxy.upstream.any_server import AnyServer
from oda_proxy.upstream.description_cache import DescriptionCache
from oda_proxy.upstream.dispatcher import Dispatcher
from oda_proxy.upstream.environment_proxies import check_proxies
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

_BY_SIGNAL = 128
"""Exit status of a command that was ended by a signal, less the number of the signal."""

DESCRIPTION_TTL = 300.0
"""Seconds that a description is cached during the run."""

_INTERMEDIATE = frozenset({"", "failed", "not-done", "poll", "running", "stale"})
"""`Cache-Status` details of answers that need not be recorded: they are no products, or others follow."""


class Recorder:
    """Answers the requests of a command from their servers, and records the answers.

    `exit_status` is the exit status of the command for the capsule; while it is None, the run counts as interrupted.
    """

    listeners: Listeners

    def __init__(
        self,
        writer: CapsuleWriter,
        upstream: str | None,
        servers: AnyServer,
        stack: AsyncExitStack,
        pages: PagePolicy,
    ) -> None:
        """Record with `writer`; `upstream` replaces all dispatchers, where it is set."""
        self.exit_status: int | None = None
        self.summary = RunSummary()
        self._writer = writer
        self._upstream = upstream
        self._servers = servers
        self._pages = PageRecorder(writer, servers, self.summary, pages)
        self._stack = stack
        self._proxies: dict[str, tuple[Proxy, DispatcherWriter]] = {}
        self._lock = asyncio.Lock()

    @property
    def source_date_epoch(self) -> int:
        """The time that the run is to write into files, in s since 1970 (UTC)."""
        return self._writer.source_date_epoch

    @property
    def was_interrupted(self) -> bool:
        """Whether the command did not end by itself."""
        return self.exit_status is None or self.exit_status > _BY_SIGNAL

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
        if (path := page_below(request)) is not None:
            return await self._pages.answer(forwarded_to(self._upstream or address or PRODUCTION, path, request))
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
        await self._note_credentials(forwarded.request)
        return await self._pages.answer(forwarded)

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
        """Return whether the certificate of a server is not trusted: then it is up to the program to refuse it."""
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
        folder = Path(self._stack.enter_context(TemporaryFolder("record")))
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
    pages: PagePolicy | None = None,
    listen: OpenListeners | None = None,
) -> AsyncIterator[Recorder]:
    """Record into a capsule in `folder`, or in a zip file, until the block ends.

    Parameters
    ----------
    command, environment
        The command for the manifest, and its environment, which may hold secrets that the command repeats.
    upstream
        Dispatcher that replaces those of the command.
    include_private
        Also record answers that were requested with a token.
    replace
        The folder may hold a capsule, which is replaced at the end.
    pages
        Which answers of other servers are recorded.
    listen
        Opens the listeners; None opens all, whose programs trust what the environment of this process trusts, too.

    Raises
    ------
    NotACapsuleError, CapsuleError
        The folder cannot be written to.
    ListenError
        There is no free port.
    UnusableProxyError
        The environment names a proxy that is not supported.
    """
    check_proxies()
    with run_output(folder, replace=replace) as written:
        writer = CapsuleWriter(written, command=command, environment=environment, include_private=include_private)
        async with _recorder(writer, upstream, pages or PagePolicy(), listen) as recorder:
            yield recorder
        if written != folder and recorder.summary.unwritable:
            raise CapsuleError(folder, f"is not replaced: {recorder.summary.unwritable}")


@asynccontextmanager
async def _recorder(
    writer: CapsuleWriter, upstream: str | None, pages: PagePolicy, listen: OpenListeners | None
) -> AsyncIterator[Recorder]:
    """Record with a writer until the block ends."""
    recorder: Recorder | None = None
    try:
        async with AsyncExitStack() as stack:
            servers = await stack.enter_async_context(AnyServer(use_env_proxies=True))
            recorder = Recorder(writer, upstream, servers, stack, pages)
            if listen is None:
                bundle = await asyncio.to_thread(trusted_bundle, os.environ)
                listen = partial(command_listeners, trusted=bundle, is_untrusted=recorder.is_untrusted)
            async with listen(recorder) as recorder.listeners:
                yield recorder
                if monitor := recorder.listeners.monitor:
                    writer.note_packages(await asyncio.to_thread(monitor.find_packages))
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
            if isinstance(error, UnwritableCapsuleError):
                self._summary.unwritable = str(error)
            return False


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
