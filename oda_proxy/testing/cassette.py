"""A cassette: the recordings of one test, replayed and recorded as a record mode demands.

New recordings replace those in the folder of the cassette when the test has ended, all at once: a test that is
interrupted changes nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from oda_proxy.capsule import layout, rewriting
from oda_proxy.capsule.capsule import open_capsule
from oda_proxy.capsule.errors import NotACapsuleError
from oda_proxy.config.options import AS_OF, PRODUCTION, RECORD, REPLAY
from oda_proxy.config.sources import value_of
from oda_proxy.errors import NoRecordingError, OdaProxyError, UsageError
from oda_proxy.files.temporary import TemporaryFolder
from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.in_process import in_thread
from oda_proxy.proxy import Proxy
from oda_proxy.query.message_text import shorten
from oda_proxy.run.client_cache import empty_client_cache
from oda_proxy.run.dispatcher_requests import public_description
from oda_proxy.run.listeners import Listeners, dispatcher_listener
from oda_proxy.run.recorder import recording
from oda_proxy.run.replayer import replaying
from oda_proxy.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Request
    from oda_proxy.http.scope import AsOf
    from oda_proxy.query.query import Envelope
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.run.listeners import CommandHandler
    from oda_proxy.run.recorder import Recorder
    from oda_proxy.run.replayer import Replayer

RecordMode = Literal["none", "once", "new_episodes", "all"]


@dataclass(frozen=True, slots=True)
class CassetteOptions:
    """The folder and the record mode of a cassette.

    Attributes
    ----------
    folder
        The capsule with the recordings; it need not exist.
    record_mode
        none: replay only; once: record if there is no capsule; new_episodes: replay, and record queries without a
        recording; all: record every query.
    is_shared
        Other tests may use the same cassette: recordings that this test does not use are not removed.
    upstream
        The dispatcher to record from; None is the one of the existing recordings, or else the production dispatcher.
    time_scale
        Duration of replayed jobs: 1 as recorded, 0 none.
    include_private
        Also record responses to requests with a token.
    as_of
        A date: what was recorded later counts as missing; None for all recordings.
    command
        The command that repeats the recording, for the manifest.
    """

    folder: Path
    record_mode: RecordMode = "none"
    is_shared: bool = False
    upstream: str | None = None
    time_scale: float = 0.0
    include_private: bool = False
    as_of: str | None = None
    command: tuple[str, ...] = ()

    @property
    def exists(self) -> bool:
        """Whether there is a capsule in the folder."""
        return (self.folder / layout.MANIFEST).is_file()

    @property
    def replays(self) -> bool:
        """Whether requests are answered from recordings."""
        return self.record_mode != "all" and self.exists

    @property
    def records(self) -> bool:
        """Whether queries without a recording are sent to the dispatcher, and recorded."""
        return self.record_mode in {"new_episodes", "all"} or (self.record_mode == "once" and not self.exists)

    @property
    def merges(self) -> bool:
        """Whether new recordings are added to existing ones."""
        return self.records and self.exists and (self.record_mode == "new_episodes" or self.is_shared)


class Cassette:
    """Answers the requests of one test. Recordings and misses are reported in a line each.

    Attributes
    ----------
    url
        Base URL for the test.
    folder
        The capsule.
    succeeded
        Whether the test passed, for the manifest of a new capsule.
    """

    url: str

    def __init__(self, folder: Path, replayer: Replayer | None, recorder: Recorder | None) -> None:
        self.folder = folder
        self.succeeded = True
        self._replayer = replayer
        self._recorder = recorder
        self._missed: Counter[str] = Counter()  # all requests, if there are no recordings
        self._missed_queries: Counter[str] = Counter()  # the queries among them
        self._missed_requests: list[Request] = []
        services = Services(miss_handler=_NoRecordings(folder, self._missed_queries))
        self._empty = Proxy(MemoryStore(), None, Policy(), services=services)

    @property
    def used(self) -> tuple[str, ...]:
        """The recordings that were replayed."""
        return self._replayer.used if self._replayer else ()

    @property
    def unused(self) -> tuple[str, ...]:
        """The recordings that were not replayed."""
        return self._replayer.unused if self._replayer else ()

    @property
    def usage(self) -> tuple[tuple[str, str, bool], ...]:
        """The key of each recording, its description, and whether it was replayed."""
        return tuple((item.key, item.about, item.uses > 0) for item in self._replayer.items) if self._replayer else ()

    @property
    def missed(self) -> tuple[str, ...]:
        """Requests without a recording, each once, with the nearest recording and what differs."""
        if self._recorder:
            return ()
        return tuple(self._replayer.missed if self._replayer else self._missed_queries or self._missed)

    @property
    def is_replaying(self) -> bool:
        """Whether requests are answered from recordings."""
        return self._replayer is not None

    @property
    def is_recording(self) -> bool:
        """Whether queries without a recording are sent to the dispatcher, and recorded."""
        return self._recorder is not None

    @property
    def recorded(self) -> int:
        """Number of new recordings, failures included."""
        return self._recorder.summary.recordings + self._recorder.summary.failures if self._recorder else 0

    @property
    def not_recorded(self) -> tuple[str, ...]:
        """Responses that were not recorded, and why."""
        if self._recorder is None:
            return ()
        private = self._recorder.summary.private
        left_out = (
            [f"responses to requests with a token: {private} (include_private=True records them)"] if private else []
        )
        return (*self._recorder.summary.not_recorded, *left_out)

    async def answer_dispatcher(self, address: str | None, request: Request, *, origin: str) -> Answer:
        """Answer a request from the recordings, or else from the dispatcher if the record mode allows it."""
        if self._replayer and (self._recorder is None or isinstance(request.body, bytes | None)):
            answer = await self._replayer.answer_dispatcher(address, request, origin=origin)
            if self._recorder is None or answer.cache_status.detail != NoRecordingError.detail:
                return answer
            await answer.close()
        if self._recorder:
            return await self._recorder.answer_dispatcher(address, request, origin=origin)
        answer = await self._empty.answer(public_description(request) or request, origin=origin)
        if answer.cache_status.detail == NoRecordingError.detail:
            self._missed[f"{request.method} {request.path}: there are no recordings"] += 1
            if request.path.endswith("/run_analysis") and isinstance(request.body, bytes | None):
                self._missed_requests.append(request)
        return answer

    def find_fitting(self, folders: Iterable[Path]) -> Path | None:
        """Return the first capsule with recordings for all queries of a test without recordings, or None."""
        if not self._missed_requests:
            return None
        with ThreadPoolExecutor(1) as executor:  # an event loop may run in this thread
            return next(
                (one for one in folders if executor.submit(asyncio.run, _fits(one, self._missed_requests)).result()),
                None,
            )


@contextmanager
def open_cassette(options: CassetteOptions) -> Iterator[Cassette]:
    """Serve a cassette at a port of its own until the block ends, then save new recordings.

    The client in this process has an empty cache meanwhile (ODA_CACHE): what it finds in its own one is not requested.

    Raises
    ------
    UsageError
        An option is not valid; NotACapsuleError if the folder holds other files.
    CapsuleError
        The recordings were changed, or new ones cannot be written.
    ListenError
        No port is free.
    """
    if not options.records:
        with empty_client_cache(), in_thread(_serve(options, None)) as cassette:
            yield cassette
        return
    if options.folder.exists() and not options.exists:
        raise NotACapsuleError(f"{options.folder} exists and holds no recordings; choose another folder")
    if options.merges:
        options = _with_recorded_upstream(options)
    with TemporaryFolder("cassette") as folder:
        new = Path(folder) / "capsule"
        with empty_client_cache(), in_thread(_serve(options, new)) as cassette:
            yield cassette
        _save(new, options)


@asynccontextmanager
async def _serve(options: CassetteOptions, new: Path | None) -> AsyncIterator[Cassette]:
    """Serve a cassette; new recordings are written to the folder `new`, unless it is None."""
    scale = value_of(REPLAY[0], options.time_scale, "time_scale")
    as_of = None if options.as_of is None else value_of(AS_OF, options.as_of, "as_of")
    upstream = None if options.upstream is None else value_of(RECORD[0], options.upstream, "upstream")
    async with AsyncExitStack() as stack:
        replayer = recorder = None
        # Another session that records may replace the folder; a read-only one is read without a lock.
        is_replaced = options.record_mode != "none" and options.folder.parent.is_dir()
        with rewriting.locked(options.folder) if is_replaced else nullcontext():
            if options.replays:
                replayer = await stack.enter_async_context(
                    replaying(options.folder, time_scale=scale, as_of=as_of, listen=_no_listener)
                )
        if new:
            recorder = await stack.enter_async_context(
                recording(
                    new,
                    command=options.command,
                    upstream=upstream,
                    include_private=options.include_private,
                    listen=_no_listener,
                )
            )
        cassette = Cassette(options.folder, replayer, recorder)
        cassette.url = (await stack.enter_async_context(dispatcher_listener(cassette))).url
        yield cassette
        if recorder:
            recorder.exit_status = int(not cassette.succeeded)


@asynccontextmanager
async def _no_listener(_: CommandHandler) -> AsyncIterator[Listeners]:
    """Open no listener: the cassette has its own."""
    yield Listeners("", {})


@dataclass(frozen=True, slots=True)
class _NoRecordings:
    """Answers every query with a miss, and counts them."""

    folder: Path
    queries: Counter[str]

    async def answer(
        self,
        resolved: ResolvedQuery,
        envelope: Envelope,  # noqa: ARG002 - interface
        as_of: AsOf | None = None,  # noqa: ARG002
    ) -> NoReturn:
        """Count a query as missed. Raises NoRecordingError."""
        query = resolved.query
        self.queries[f"{shorten(query.instrument)} {shorten(query.product_type)}: there are no recordings"] += 1
        raise NoRecordingError(f"offline: there are no recordings in {self.folder}")


def _with_recorded_upstream(options: CassetteOptions) -> CassetteOptions:
    """Choose the dispatcher of the existing recordings. Raises UsageError if another one is configured."""
    recorded = [dispatcher.url for dispatcher in open_capsule(options.folder).dispatchers]
    upstream = (recorded or [PRODUCTION])[0] if options.upstream is None else options.upstream
    for url in recorded:
        if url != upstream.rstrip("/"):
            raise UsageError(
                f"the recordings in {options.folder} are from {url}, not from {upstream}: "
                "record from that dispatcher, or into another folder"
            )
    return replace(options, upstream=upstream)


def _save(recorded: Path, options: CassetteOptions) -> None:
    """Move new recordings to the folder of the cassette; nothing changes if there are none. Raises CapsuleError."""
    if open_capsule(recorded).files:
        merges = options.record_mode == "new_episodes" or options.is_shared
        rewriting.replace(options.folder, recorded, command=options.command, merges=merges)


async def _fits(folder: Path, requests: Iterable[Request]) -> bool:
    """Whether a capsule has recordings for all requests."""
    try:
        async with replaying(folder, listen=_no_listener) as replayer:
            for request in requests:
                answer = await replayer.answer_dispatcher(None, request, origin="http://localhost")
                await answer.close()
                if answer.cache_status.detail == NoRecordingError.detail:
                    return False
    except OdaProxyError:  # a damaged capsule, which its own test reports
        return False
    return True
