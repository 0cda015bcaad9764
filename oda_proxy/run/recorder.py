"""Recording a run: dispatchers are asked through proxies, and what comes is kept in a capsule as it comes."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oda_proxy.capsule import exchange
from oda_proxy.capsule.capsule import CapsuleError, Writer
from oda_proxy.config import PRODUCTION
from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.http.answer import buffered
from oda_proxy.proxy import Policy, Proxy, Services
from oda_proxy.query.descriptions import Descriptions
from oda_proxy.recordings.redaction import NotStorableError
from oda_proxy.run.listeners import doors, is_description, passed_on, public_description
from oda_proxy.store.disk import DiskStore
from oda_proxy.upstream.any_server import AnyServer, ServerUnreachableError
from oda_proxy.upstream.description_cache import DescriptionCache
from oda_proxy.upstream.dispatcher import Dispatcher
from oda_proxy.upstream.throttling import ThrottledUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from oda_proxy.capsule.capsule import DispatcherWriter
    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Request
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.recordings.failures import Failure
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.run.forward_proxy import ForwardedRequest
    from oda_proxy.run.listeners import Listeners, Opening

AT_ONCE, RATE = 32, 20.0
"""Requests to a dispatcher that are under way at once, and those in a second."""

DESCRIPTION_TTL = 300.0
"""Seconds that a description is remembered during the run."""

_ORDINARY = frozenset({"", "failed", "not-done", "poll", "running", "stale"})
"""What `Cache-Status` says of answers that need not be kept: they are no products, or others come in their place."""

_IN_OTHER_WORDS = {
    "credentials": "asked with a cookie or a password",
    "echo-differs": "the dispatcher answered another question",
    "method": "only GET is kept",
    "not-a-query": "no query that can be read",
    "not-api": "a page for a browser",
    "partial": "products of a job that was not done",
    "secret-in-address": "there may be a secret in its address",
    "status": "neither a success nor a redirect",
    "token": "asked with a token that cannot be read",
    "too-large": "too large",
    "unreachable": "it could not be reached",
}


@dataclass(slots=True)
class Tally:
    """What became of what a run asked for."""

    recordings: int = 0
    size: int = 0
    """Bytes of the recordings, as they were sent."""
    failures: int = 0
    descriptions: set[tuple[str, str]] = field(default_factory=set)
    """What was told of instruments, by the path and the query of the request."""
    pages: set[str] = field(default_factory=set)
    """What other servers answered, by its name in the capsule."""
    private: int = 0
    """Answers that were left out because they were asked for with a token."""
    not_kept: Counter[str] = field(default_factory=Counter)
    """What was not kept and why, in a line for a person, and how often."""

    def miss(self, what: str, reason: object) -> None:
        """Take note of something that was not kept; `reason` is a short word, or an error."""
        word = str(reason)
        self.not_kept[f"{what}: {_IN_OTHER_WORDS.get(word, word)}"] += 1


class Recorder:
    """Answers a command by asking, and keeps what comes.

    `exit_status` is what the capsule is to say of the command's end; where nobody sets it, the run was interrupted.
    """

    doors: Listeners

    def __init__(self, writer: Writer, upstream: str | None, servers: AnyServer, stack: AsyncExitStack) -> None:
        """Take what it stands on; `upstream` is asked for all dispatchers, where one is given."""
        self.exit_status: int | None = None
        self.tally = Tally()
        self._writer = writer
        self._upstream = upstream
        self._servers = servers
        self._stack = stack
        self._begun: dict[str, tuple[Proxy, DispatcherWriter]] = {}
        self._beginning = asyncio.Lock()

    @property
    def dispatchers(self) -> tuple[str, ...]:
        """The addresses of the dispatchers that were asked."""
        return tuple(self._begun)

    async def dispatcher(self, address: str | None, request: Request, *, origin: str) -> Answer:
        """Answer a request to a dispatcher through a proxy for it."""
        proxy, writer = await self._proxy(self._upstream or address or PRODUCTION)
        if address is not None:
            writer.named(address)
        if version := _client_version(request):
            self._writer.note_version("oda_api", version)
        if public := public_description(request):  # whoever replays the run may have no token
            told = await proxy.answer(public, origin=origin)
            await told.close()
            if told.cache_status.stored:
                self.tally.descriptions.add((public.path, public.query_string))
        answer = await proxy.answer(request, origin=origin)
        status = answer.cache_status
        if status.stored and is_description(request):
            self.tally.descriptions.add((request.path, request.query_string))
        if public is None and not (status.hit or status.stored):
            if status.detail not in _ORDINARY:
                self.tally.miss(f"{request.method} {request.path}", status.detail)
            elif status.forwarded == "bypass" and not status.detail:
                self.tally.miss(f"{request.method} {request.path}", "neither products nor a description")
        return answer

    async def elsewhere(self, asked: ForwardedRequest) -> Answer:
        """Ask another server, and keep what anybody may ask."""
        what = f"{asked.request.method} {_shown(asked)}"
        try:
            exchange.refuse_request(asked.request.method, asked.url, asked.request.headers)
        except NotStorableError as reason:
            self.tally.miss(what, reason)
            return await passed_on(self._servers, asked)
        asked = replace(asked, request=replace(asked.request, headers=exchange.asking(asked.request.headers)))
        try:
            answer = await passed_on(self._servers, asked)
            exchange.refuse_answer(answer.status, answer.headers)
            answer = await buffered(answer, exchange.MAX_BODY)
            if not isinstance(answer.body, tuple):
                raise NotStorableError("too-large")  # noqa: TRY301 - as all other reasons
            body = b"".join(answer.body)
            page = exchange.kept(
                asked.url, asked.request.headers, answer.status, answer.headers, body, when=time.time()
            )
            document = json.loads(exchange.to_json(page))
            await asyncio.to_thread(self._writer.save_exchange, page.name, document, body)
            self._writer.used_exchange(page.name)
            self.tally.pages.add(page.name)
        except (NotStorableError, CapsuleError) as reason:
            self.tally.miss(what, reason)
        except (ServerUnreachableError, UpstreamUnreachableError) as error:
            self.tally.miss(what, error.detail)
            raise
        return answer

    def look_after(self) -> None:
        """Take note of the jobs that still run: nobody waits for them any more."""
        for proxy, _ in self._begun.values():
            for running in proxy.jobs:
                self.tally.miss(_product(running.resolved), "its job still ran at the end")

    async def _proxy(self, url: str) -> tuple[Proxy, DispatcherWriter]:
        """Give the proxy for a dispatcher, and what keeps its answers."""
        async with self._beginning:
            if url not in self._begun:
                writer = self._writer.dispatcher(url)
                self._begun[url] = await self._made(url, writer), writer
            return self._begun[url]

    async def _made(self, url: str, writer: DispatcherWriter) -> Proxy:
        """Make a proxy whose recordings last as long as the run; large ones had better not be in memory."""
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="oda-proxy-")))
        store = self._stack.enter_context(closing(DiskStore(folder)))
        dispatcher = await self._stack.enter_async_context(Dispatcher(url))
        asked = ThrottledUpstream(dispatcher, max_concurrent=AT_ONCE, rate=RATE)
        services = Services(
            instruments=Descriptions(asked, writer.folder, ttl=DESCRIPTION_TTL, clock=time.monotonic),
            description_cache=DescriptionCache(DESCRIPTION_TTL, time.time, writer.folder),
            observer=_Keeping(writer, self.tally),
        )
        proxy = Proxy(store, asked, Policy(description_ttl=DESCRIPTION_TTL), services=services)
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
    doors: Opening = doors,
) -> AsyncIterator[Recorder]:
    """Record into a capsule in `folder`, through the recorder's doors, until the block ends.

    Parameters
    ----------
    command, environment
        What is run, to be told in the capsule without the secrets that stand in the environment.
    upstream
        Dispatcher to ask in place of those that the command names.
    include_private
        Keep what is asked for with a token, too.
    replace
        The folder may hold a capsule, which is removed.
    doors
        Which doors to open.

    Raises
    ------
    NotACapsuleError, CapsuleError
        The folder cannot be written to.
    ListenError
        There is no port to be had.
    """
    writer = Writer(folder, command=command, environment=environment, include_private=include_private, replace=replace)
    recorder: Recorder | None = None
    try:
        async with AsyncExitStack() as stack:
            servers = await stack.enter_async_context(AnyServer(use_env_proxies=True))
            recorder = Recorder(writer, upstream, servers, stack)
            async with doors(recorder) as recorder.doors:
                yield recorder
            recorder.look_after()
    finally:
        if recorder is not None:
            recorder.tally.private = writer.private_left_out
            if recorder.exit_status is not None:
                await asyncio.to_thread(writer.finish, recorder.exit_status)


class _Keeping:
    """Sees what a proxy is told, and keeps it."""

    def __init__(self, writer: DispatcherWriter, tally: Tally) -> None:
        self._writer = writer
        self._tally = tally

    async def stored(self, recording: Recording) -> None:
        """Keep a recording in the capsule, too."""
        if await self._saved(self._writer.save_recording, recording):
            self._tally.recordings += 1
            self._tally.size += recording.head.size
            self._writer.used(recording.key)

    async def served(self, recording: Recording) -> None:
        """Take note that a recording was used again."""
        self._writer.used(recording.key)

    async def failed(self, resolved: ResolvedQuery, failure: Failure | None) -> None:
        """Keep a failure."""
        if failure is None:
            self._tally.miss(f"a failure of {_product(resolved)}", "it names who asked")
        elif await self._saved(self._writer.save_failure, failure):
            self._tally.failures += 1
            self._writer.used(resolved.key)

    async def missed(self, resolved: ResolvedQuery, message: str) -> None:
        """Do nothing: there is somebody to ask."""

    async def _saved(self, save: Callable[[Any], bool], what: Any) -> bool:
        try:
            return await asyncio.to_thread(save, what)
        except CapsuleError as error:
            self._tally.miss("an answer", error)
            return False


def _shown(asked: ForwardedRequest) -> str:
    """Give the address of a page without its query, and without its path where that may hold a secret."""
    address = asked.url.partition("?")[0]
    return str(asked.origin) if exchange.names_a_secret(address) else address


def _product(resolved: ResolvedQuery) -> str:
    return f"{resolved.query.instrument} {resolved.query.product_type}"


_VERSION = re.compile(r"(?:^|&)oda_api_version=([\w.]{1,40})(?:&|$)")


def _client_version(request: Request) -> str | None:
    """Give the version that a client says it has; those up to 1.1.0 say none."""
    form = request.body.decode("latin-1") if isinstance(request.body, bytes) else ""
    found = _VERSION.search(request.query_string) or _VERSION.search(form)
    return found[1] if found else None
