"""What one test asks, answered from its recordings, and recorded where that is wanted.

What is recorded comes to the place of the recordings when the test has ended, whole: a test that is cut off leaves
them as they were.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from oda_proxy import config
from oda_proxy.capsule import capsule, exchange
from oda_proxy.capsule.capsule import NotACapsuleError, Writer, open_capsule
from oda_proxy.errors import NoRecordingError, UsageError
from oda_proxy.in_process import in_thread
from oda_proxy.proxy import Policy, Proxy, Services
from oda_proxy.query.nearest import shorten
from oda_proxy.run.listeners import Listeners, own_door, public_description
from oda_proxy.run.recorder import recording
from oda_proxy.run.replayer import replaying
from oda_proxy.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from oda_proxy.capsule.capsule import Capsule
    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Request
    from oda_proxy.query.query import Envelope
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.run.listeners import CommandHandler
    from oda_proxy.run.recorder import Recorder
    from oda_proxy.run.replayer import Replayer

Mode = Literal["none", "once", "new_episodes", "all"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which recordings a test has, and what is to become of them.

    Attributes
    ----------
    folder
        The capsule, which need not be there.
    mode
        none: recordings only; once: record where there is no capsule; new_episodes: record what it lacks; all: record
        everything anew.
    is_shared
        Other tests may have the same recordings: those that this one does not ask for stay.
    upstream
        The dispatcher to record from; None is that of the recordings that stay, or else the production one.
    time_scale
        How long recorded jobs take: 1 as they did, 0 no time.
    include_private
        Record what is asked for with a token, too.
    command
        How to repeat what is recorded.
    """

    folder: Path
    mode: Mode = "none"
    is_shared: bool = False
    upstream: str | None = None
    time_scale: float = 0.0
    include_private: bool = False
    command: tuple[str, ...] = ()

    @property
    def is_there(self) -> bool:
        """Whether there are recordings."""
        return (self.folder / capsule.MANIFEST).is_file()

    @property
    def replays(self) -> bool:
        """Whether there is something to answer from."""
        return self.mode != "all" and self.is_there

    @property
    def records(self) -> bool:
        """Whether a dispatcher is asked for what is not recorded."""
        return self.mode in {"new_episodes", "all"} or (self.mode == "once" and not self.is_there)

    @property
    def keeps(self) -> bool:
        """Whether recordings that are there are to stay beside new ones."""
        return self.records and self.is_there and (self.mode == "new_episodes" or self.is_shared)


class Cassette:
    """Answers a test; what is said of it is told in a line each, for a person.

    Attributes
    ----------
    url
        Where the test asks.
    folder
        The capsule.
    succeeded
        What a capsule that is made is to say of the test.
    """

    url: str

    def __init__(self, folder: Path, replayer: Replayer | None, recorder: Recorder | None) -> None:
        self.folder = folder
        self.succeeded = True
        self._replayer = replayer
        self._recorder = recorder
        self._missed: Counter[str] = Counter()  # everything that was asked where there are no recordings at all
        self._queries: Counter[str] = Counter()  # the queries among it, which say enough
        services = Services(miss_handler=_NothingYet(folder, self._queries))
        self._nothing = Proxy(MemoryStore(), None, Policy(), services=services)

    @property
    def used(self) -> tuple[str, ...]:
        """The recordings that were asked for."""
        return self._replayer.used if self._replayer else ()

    @property
    def unused(self) -> tuple[str, ...]:
        """The recordings that were not asked for."""
        return self._replayer.unused if self._replayer else ()

    @property
    def missed(self) -> tuple[str, ...]:
        """What was asked for and is not recorded, with what differs; each once."""
        if self._recorder:
            return ()
        return tuple(self._replayer.missed if self._replayer else self._queries or self._missed)

    @property
    def is_replaying(self) -> bool:
        """Whether there are recordings to answer from."""
        return self._replayer is not None

    @property
    def is_recording(self) -> bool:
        """Whether a dispatcher is asked for what is not recorded."""
        return self._recorder is not None

    @property
    def recorded(self) -> int:
        """The number of answers, failures among them, that were recorded."""
        return self._recorder.tally.recordings + self._recorder.tally.failures if self._recorder else 0

    @property
    def not_recorded(self) -> tuple[str, ...]:
        """What was answered and could not be recorded, and why."""
        if self._recorder is None:
            return ()
        private = self._recorder.tally.private
        left_out = [f"answers asked for with a token: {private} (include_private=True keeps them)"] if private else []
        return (*self._recorder.tally.not_kept, *left_out)

    async def dispatcher(self, address: str | None, request: Request, *, origin: str) -> Answer:
        """Answer a request: from the recordings, else from the dispatcher where one is asked."""
        if self._replayer and (self._recorder is None or isinstance(request.body, bytes | None)):
            answer = await self._replayer.dispatcher(address, request, origin=origin)
            if self._recorder is None or answer.cache_status.detail != NoRecordingError.detail:
                return answer
            await answer.close()
        if self._recorder:
            return await self._recorder.dispatcher(address, request, origin=origin)
        answer = await self._nothing.answer(public_description(request) or request, origin=origin)
        if answer.cache_status.detail == NoRecordingError.detail:
            self._missed[f"{request.method} {request.path}: there are no recordings"] += 1
        return answer


@contextmanager
def opened(wanted: Wanted) -> Iterator[Cassette]:
    """Answer a test at an address of its own until the block ends.

    Raises
    ------
    UsageError
        What is wanted makes no sense; NotACapsuleError where the folder is used for something else.
    CapsuleError
        The recordings are not as they were written, or cannot be written.
    ListenError
        There is no port to be had.
    """
    if not wanted.records:
        with in_thread(_answering(wanted, None)) as episodes:
            yield episodes
        return
    if wanted.folder.exists() and not wanted.is_there:
        raise NotACapsuleError(f"{wanted.folder} is there, and holds no recordings; name another folder")
    if wanted.keeps:
        wanted = _of_the_same(wanted)
    with tempfile.TemporaryDirectory(prefix="oda-proxy-") as folder:
        fresh = Path(folder) / "capsule"
        with in_thread(_answering(wanted, fresh)) as episodes:
            yield episodes
        _keep(fresh, wanted)


@asynccontextmanager
async def _answering(wanted: Wanted, fresh: Path | None) -> AsyncIterator[Cassette]:
    """Open the door to what answers a test; what is recorded goes to the folder `fresh`, where one is given."""
    scale = config.value_of(config.REPLAY[0], wanted.time_scale, "time_scale")
    upstream = config.value_of(config.RECORD[0], wanted.upstream, "upstream") if wanted.upstream else None
    async with AsyncExitStack() as stack:
        replayer = recorder = None
        if wanted.replays:
            replayer = await stack.enter_async_context(replaying(wanted.folder, time_scale=scale, doors=_no_door))
        if fresh:
            recorder = await stack.enter_async_context(
                recording(
                    fresh,
                    command=wanted.command,
                    upstream=upstream,
                    include_private=wanted.include_private,
                    doors=_no_door,
                )
            )
        episodes = Cassette(wanted.folder, replayer, recorder)
        episodes.url = (await stack.enter_async_context(own_door(episodes))).url
        yield episodes
        if recorder:
            recorder.exit_status = int(not episodes.succeeded)


@asynccontextmanager
async def _no_door(_: CommandHandler) -> AsyncIterator[Listeners]:
    """Open no door: there is one already, before another house."""
    yield Listeners("", {})


@dataclass(frozen=True, slots=True)
class _NothingYet:
    """Says that there are no recordings, and counts the queries that are told so."""

    folder: Path
    queries: Counter[str]

    async def answer(self, resolved: ResolvedQuery, envelope: Envelope) -> NoReturn:  # noqa: ARG002 - whoever asks
        """Raise NoRecordingError."""
        query = resolved.query
        self.queries[f"{shorten(query.instrument)} {shorten(query.product_type)}: there are no recordings"] += 1
        raise NoRecordingError(f"offline: there are no recordings in {self.folder}")


def _of_the_same(wanted: Wanted) -> Wanted:
    """Ask the dispatcher that was recorded. Raises UsageError: what two of them said is not to be mixed."""
    known = [dispatcher.url for dispatcher in open_capsule(wanted.folder).dispatchers]
    asked = wanted.upstream or (known[0] if known else config.PRODUCTION)
    for url in known:
        if url != asked.rstrip("/"):
            raise UsageError(
                f"the recordings in {wanted.folder} are of {url}, and not of {asked}: "
                "record from that one, or into another folder"
            )
    return replace(wanted, upstream=asked)


def _keep(fresh: Path, wanted: Wanted) -> None:
    """Put what was recorded in its place, if it is anything. Raises CapsuleError."""
    made = open_capsule(fresh)
    if not made.files:
        return
    place = wanted.folder
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{place.name[:40]}-", dir=place.parent) as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        if wanted.keeps:
            _write_together(new, (open_capsule(place), made), wanted.command)
        else:
            shutil.copytree(fresh, new)
        if place.exists():
            place.rename(old)
            _move_others(old, new)
        new.rename(place)


def _write_together(folder: Path, capsules: tuple[Capsule, ...], command: tuple[str, ...]) -> None:
    """Write a capsule with what is in several; a later one's answer to the same question counts."""
    writer = Writer(folder, command=command, include_private=True)  # what is there may stay
    for one in capsules:
        for program, versions in one.versions.items():
            for version in versions if isinstance(versions, list) else ():
                writer.note_version(program, version)
        for dispatcher in one.dispatchers:
            into = writer.dispatcher(dispatcher.url)
            for address in dispatcher.addresses:
                into.named(address)
            for recorded in dispatcher.recordings():
                into.save_recording(recorded)
            for failure in dispatcher.failures.values():
                into.save_failure(failure)
            described = dispatcher.folder / "descriptions"
            if described.is_dir():
                shutil.copytree(described, into.folder / described.name, dirs_exist_ok=True)
        for document, body in one.exchanges():
            page = exchange.from_json(json.dumps(document).encode("ascii"), body)
            writer.save_exchange(page.name, document, body)
    writer.finish(capsules[-1].exit_status or 0)


def _move_others(old: Path, new: Path) -> None:
    """Keep what lies beside a capsule's own files in its folder."""
    for other in old.iterdir():
        if other.name not in {capsule.MANIFEST, capsule.CRATE, "dispatchers", "exchanges"}:
            other.rename(new / other.name)
