"""The cache of instrument and product descriptions, in memory and in files.

Descriptions change seldom, and clients request them before each query. A cached one is served without asking until its
time to live has passed, and marked as stale for as long as the dispatcher is unreachable or slow. Files beside the
recordings outlive the process, so that the first cells of a notebook work offline. What is replaced becomes an earlier
description (`description_history`).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

from oda_proxy.errors import NoRecordingError, UpstreamUnreachableError
from oda_proxy.files import atomic
from oda_proxy.files.versions import path_of_format
from oda_proxy.http import headers
from oda_proxy.http.answer import OK, Answer, age, buffered, is_plain
from oda_proxy.http.cache_control import CacheControl
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.scope import after
from oda_proxy.http.storable import shared_headers, storage_refusal, stored_headers, variant, varying_names
from oda_proxy.upstream.description_history import DescriptionHistory, EarlierDescription

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from oda_proxy.http.cache_status import Forwarded
    from oda_proxy.http.message import Headers
    from oda_proxy.http.scope import AsOf

_log = logging.getLogger(__name__)

FORMAT = 1
"""Version of the files."""
MAX_SIZE = 8 * 1024 * 1024
"""Bytes of a description that is cached; the largest known has some hundred thousand."""
MAX_DESCRIPTIONS = 1024
"""Descriptions in memory: some tens of instruments with some tens of products."""

STALE_AFTER = 15.0
"""Seconds of a fetch after which clients receive what is cached; the fetch continues for later ones."""

_DIGITS = 10
"""Digits of an age that are read: 300 years."""

_MAX_READABLE = 40
"""Characters of the readable part of the name of a file."""

_GATEWAY_ERRORS = frozenset({502, 503, 504})


@dataclass(frozen=True, slots=True)
class _Description:
    """A cached description; `fetched_at` is in s since 1970 (UTC)."""

    fetched_at: float
    headers: Headers
    """Without those that may concern one client."""
    body: tuple[bytes, ...]
    first_fetched_at: float | None = None
    """When the first of several equal descriptions was fetched; None if that is `fetched_at`."""
    varying: tuple[tuple[str, str], ...] = ()
    """The request headers by which it varies (`Vary`), with their values."""

    @property
    def valid_from(self) -> float:
        """Since when it is the description."""
        return self.fetched_at if self.first_fetched_at is None else self.first_fetched_at

    def suits(self, request_headers: Headers) -> bool:
        """Return whether it is the answer to a request with these headers."""
        return variant(request_headers, frozenset(name for name, _ in self.varying)) == self.varying


@dataclass(frozen=True, slots=True)
class PastDescription:
    """The answer with the description of a past time, its number, and since when each is, or was, the description."""

    answer: Answer
    number: int
    times: tuple[float, ...]


class DescriptionCache:
    """Descriptions that are fresh for `ttl` s, also in files below `folder`; `clock` returns s since 1970 (UTC).

    Where a fetch takes more than `stale_after` s, a stale description is served meanwhile. Files below
    `former_folders`, the folders of former addresses of the dispatcher, are read where there is none below `folder`.
    """

    def __init__(
        self,
        ttl: float,
        clock: Callable[[], float],
        folder: Path | None = None,
        *,
        stale_after: float = STALE_AFTER,
        former_folders: Sequence[Path] = (),
    ) -> None:
        self._ttl = ttl
        self._clock = clock
        self._folder = folder / "descriptions" if folder else None
        self._former_folders = [former / "descriptions" for former in former_folders]
        self._cached: LRUCache[tuple[str, ...], _Description] = LRUCache(MAX_DESCRIPTIONS)
        self._fetches: dict[tuple[str, ...], asyncio.Task[Answer]] = {}
        self._stale_after = stale_after
        self._history = DescriptionHistory()
        self._expired_at = float("-inf")

    def expire(self) -> None:
        """Have every description fetched again before it is next served: the dispatcher has other ones now."""
        self._expired_at = self._clock()
        self._fetches.clear()  # those that run may return earlier ones

    async def get(
        self,
        name: tuple[str, ...],
        fetch: Callable[[Forwarded], Awaitable[Answer]],
        *,
        request_headers: Headers = (),
        control: CacheControl = CacheControl(),  # noqa: B008 - frozen
    ) -> Answer:
        """Return the cached description where `control` allows it, or the result of `fetch`.

        Concurrent requests for one name share one fetch; only the first receives all headers of the dispatcher. Raises
        what `fetch` raises where nothing is cached.
        """
        running = None if control.refreshes else self._fetches.get(name)
        if running is None:
            task = asyncio.create_task(self._get(name, fetch, request_headers, control))
            self._fetches[name] = task
            task.add_done_callback(lambda done: self._finished(name, done))
            stale = await self._stale_if_slow(name, task, request_headers, control)
            return await asyncio.shield(task) if stale is None else stale
        if stale := await self._stale_if_slow(name, running, request_headers, control):
            return stale
        answer = await asyncio.shield(running)
        if not _is_shareable(answer, request_headers, self._cached.get(name)):
            return await self._get(name, fetch, request_headers, control)
        return replace(answer, headers=shared_headers(answer.headers))

    async def get_as_of(self, name: tuple[str, ...], as_of: AsOf) -> PastDescription | None:
        """Return the description of a past time; None where none was cached then."""
        current = self._cached.get(name) or await asyncio.to_thread(self._read, name)
        if current is not None and current.varying:
            current = None
        folders = [folder for folder in (self._folder, *self._former_folders) if folder is not None]
        files: list[Path | None] = [self._file(name, folder) for folder in folders] or [None]
        earlier = [one for file in files for one in await asyncio.to_thread(self._history.earlier, name, file)]
        versions = [
            *(_Description(one.valid_from, (("Content-Type", one.content_type),), (one.body,)) for one in earlier),
            *([] if current is None else [current]),
        ]
        if current is not None and current.valid_from <= as_of.time:
            number = len(earlier)
        else:
            number = next((number for number, one in enumerate(earlier) if one.covers(as_of.time)), -1)
        if number < 0 and as_of.is_negotiated and versions:
            number = max((number for number, one in enumerate(versions) if one.valid_from <= as_of.time), default=0)
        if number < 0:
            return None
        answer = self._hit(versions[number], detail="as-of")
        return PastDescription(answer, number, tuple(one.valid_from for one in versions))

    async def _stale_if_slow(
        self, name: tuple[str, ...], task: asyncio.Task[Answer], request_headers: Headers, control: CacheControl
    ) -> Answer | None:
        """Wait for a fetch; return a stale description if it takes long and there is one."""
        done, _ = await asyncio.wait({task}, timeout=self._stale_after)
        cached = self._cached.get(name)
        if done or cached is None or not cached.suits(request_headers):
            return None
        is_allowed = not control.refreshes and control.allows(self._clock() - cached.fetched_at)
        return self._hit(cached, detail="stale") if is_allowed else None

    def _finished(self, name: tuple[str, ...], task: asyncio.Task[Answer]) -> None:
        if self._fetches.get(name) is task:
            del self._fetches[name]
        if not task.cancelled():
            task.exception()  # all who waited may have disconnected: mark it as retrieved

    async def _get(
        self,
        name: tuple[str, ...],
        fetch: Callable[[Forwarded], Awaitable[Answer]],
        request_headers: Headers,
        control: CacheControl,
    ) -> Answer:
        if name not in self._cached and (found := await asyncio.to_thread(self._read, name)):
            self._cached[name] = found
        cached = self._cached.get(name)
        if cached and not cached.suits(request_headers):
            cached = None
        cached_for = self._clock() - cached.fetched_at if cached else 0.0
        is_allowed = control.allows(cached_for)
        is_fresh = abs(cached_for) < self._ttl  # one of the future was fetched when the clock was ahead
        if cached and is_allowed and is_fresh and cached.fetched_at > self._expired_at:
            return self._hit(cached)
        fetched_at = self._clock()
        try:
            reason: Forwarded = ("stale" if is_allowed else "request") if cached else "uri-miss"
            answer = await buffered(await fetch("request" if control.refreshes else reason), MAX_SIZE)
        except (UpstreamUnreachableError, NoRecordingError):
            if cached is None:
                raise
            return self._hit(cached, detail="stale")
        if cached and answer.status in _GATEWAY_ERRORS:
            await answer.close()
            return self._hit(cached, detail="stale")
        if not is_plain(answer) or not isinstance(answer.body, tuple):
            return answer
        if refusal := storage_refusal(answer.headers):
            return replace(answer, cache_status=replace(answer.cache_status, detail=refusal))
        varying = variant(request_headers, varying_names(answer.headers))
        body = tuple(map(bytes, answer.body))
        fetched = fetched_at - _age(answer)
        await self._store(name, _Description(fetched, stored_headers(answer.headers), body, varying=varying), cached)
        return replace(answer, cache_status=replace(answer.cache_status, stored=True))

    def cached_file(self, name: tuple[str, ...]) -> tuple[str, float, bytes] | None:
        """Return the name of the file of a cached description, when it was fetched in s since 1970, and its content.

        None where it is not in memory, is not UTF-8, or differs for clients with other headers.
        """
        if (cached := self._cached.get(name)) is None or cached.varying:
            return None
        try:
            return _file_name(name), cached.fetched_at, _file_content(name, cached)
        except UnicodeDecodeError:
            return None

    async def past_file(self, name: tuple[str, ...], as_of: AsOf) -> tuple[str, float, bytes] | None:
        """Return the file of the description of a past time as `cached_file`; None where none was cached then."""
        if (past := await self.get_as_of(name, as_of)) is None or not isinstance(past.answer.body, tuple):
            return None
        since, body = past.times[past.number], tuple(map(bytes, past.answer.body))
        try:
            return _file_name(name), since, _file_content(name, _Description(since, past.answer.headers, body))
        except UnicodeDecodeError:
            return None

    def _hit(self, cached: _Description, *, detail: str = "") -> Answer:
        length = ("Content-Length", str(sum(map(len, cached.body))))
        vary = (("Vary", ", ".join(name for name, _ in cached.varying)),) if cached.varying else ()
        fields = (*cached.headers, length, *vary, age(cached.fetched_at, self._clock()))
        return Answer(OK, fields, cached.body, CacheStatus(hit=True, detail=detail))

    async def _store(self, name: tuple[str, ...], description: _Description, cached: _Description | None) -> None:
        """Cache a description; a different one that it replaces becomes an earlier one."""
        is_same = cached is not None and b"".join(cached.body) == b"".join(description.body)
        if cached is not None and is_same:
            description = replace(description, first_fetched_at=cached.valid_from)
        elif cached is not None and description.fetched_at <= cached.valid_from:  # the clock was set back
            description = replace(description, first_fetched_at=after(max(cached.valid_from, cached.fetched_at)))
        self._cached[name] = description
        if description.varying:
            return
        if cached is not None and not is_same:
            await asyncio.to_thread(self._archive, name, cached, description.valid_from)
        await asyncio.to_thread(self._write, name, description)

    def _archive(self, name: tuple[str, ...], replaced: _Description, valid_until: float) -> None:
        """Store a description that is replaced as an earlier one."""
        content_type = (headers.values(replaced.headers, "content-type") or [""])[0]
        file = self._file(name, self._folder) if self._folder else None
        earlier = EarlierDescription(replaced.valid_from, valid_until, content_type, b"".join(replaced.body))
        self._history.add(name, file, earlier)

    def _file(self, name: tuple[str, ...], folder: Path) -> Path:
        return folder / _file_name(name)

    def _file_of_earlier_releases(self, name: tuple[str, ...], folder: Path) -> Path:
        digest = hashlib.sha256(json.dumps(name).encode()).hexdigest()
        return folder / f"told-{digest}.json"

    def _read(self, name: tuple[str, ...]) -> _Description | None:
        """Read the file of a description, of the present address or else of a former one."""
        folders = filter(None, (self._folder, *self._former_folders))
        return next((found for folder in folders if (found := self._read_in(name, folder)) is not None), None)

    def _read_in(self, name: tuple[str, ...], folder: Path) -> _Description | None:
        """Read the file of a description in a folder; one that cannot be read is logged and counts as absent."""
        file = self._file(name, folder)
        try:
            if not file.exists():
                file = self._file_of_earlier_releases(name, folder)
            file = path_of_format(file, FORMAT)
            if not file.is_file() or file.stat().st_size > 2 * MAX_SIZE:
                return None
            members = json.loads(file.read_bytes())
            if members["format"] != FORMAT or members["asked"] != list(name):
                return None
            return _description(members)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            _log.warning("cannot read the description in %s: %s", file, error)
            return None

    def _write(self, name: tuple[str, ...], description: _Description) -> None:
        """Write a description for later runs; where that fails, it stays cached in this process only."""
        if self._folder is None:
            return
        file = self._file(name, self._folder)
        try:
            atomic.write(path_of_format(file, FORMAT), _file_content(name, description))
        except UnicodeDecodeError:
            return  # a description is JSON, which is UTF-8
        except OSError as error:
            _log.warning("cannot write a description: %s", error.strerror or error)


def _file_name(name: tuple[str, ...]) -> str:
    digest = hashlib.sha256(json.dumps(name).encode()).hexdigest()
    readable = "_".join(re.sub(r"[^A-Za-z0-9-]+", "_", word).strip("_") for word in name).strip("_")
    return f"{readable[:_MAX_READABLE]}-{digest[:12]}.json"


def _file_content(name: tuple[str, ...], description: _Description) -> bytes:
    """Return the content of the file of a description. Raises UnicodeDecodeError where it is not UTF-8."""
    members = {
        "format": FORMAT,
        "asked": name,
        "told_at": description.fetched_at,
        **({} if description.first_fetched_at is None else {"first_told_at": description.first_fetched_at}),
        "content_type": (headers.values(description.headers, "content-type") or [""])[0],
        "body": b"".join(description.body).decode("utf-8"),
    }
    return f"{json.dumps(members, indent=1)}\n".encode()


def _age(answer: Answer) -> float:
    """Return for how many s another cache has had an answer (RFC 9111, section 5.1); 0 where it does not say so."""
    values = headers.values(answer.headers, "age")
    return float(values[0][:_DIGITS]) if values and values[0].isascii() and values[0].isdecimal() else 0.0


def _is_shareable(answer: Answer, request_headers: Headers, cached: _Description | None) -> bool:
    """Return whether the answer to a concurrent request may be returned to another client.

    A failure may be, unless the dispatcher forbids it; a success only if it was cached for such a request. A streamed
    body belongs to the client that reads it.
    """
    if not isinstance(answer.body, tuple) or storage_refusal(answer.headers):
        return False
    varies = bool(varying_names(answer.headers))
    return not varies or (cached is not None and cached.suits(request_headers))


def _description(members: dict[str, Any]) -> _Description:
    """Return the description in a file; raises KeyError, TypeError or AttributeError for a missing or wrong member."""
    content_type = ("Content-Type", str(members["content_type"]))
    first = members.get("first_told_at")
    first_fetched_at = float(first) if isinstance(first, int | float) else None
    return _Description(
        float(members["told_at"]), (content_type,), (members["body"].encode("utf-8"),), first_fetched_at
    )
