"""Hits that are repeated: what a request gets that differs from an earlier one only in its session.

The path of a request in `proxy` decides what is a hit, and writes the answer. Whatever could have changed since then is
checked each time; where anything has, the request takes that path again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import ref

from oda_proxy.http.content_coding import IDENTITY
from oda_proxy.recordings.recording import BEGIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.handlers.capsule_recordings import CapsuleRecordings
    from oda_proxy.http.cache_status import CacheStatus
    from oda_proxy.jobs.client import Client
    from oda_proxy.query.resolved import QueryResolver, ResolvedQuery
    from oda_proxy.recordings.loaded import LoadedRecording
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.freshness import Freshness
    from oda_proxy.store.recording_cache import RecordingCache


class HitRepeater:
    """Repeats hits; `clock` returns s since 1970 (UTC)."""

    def __init__(
        self,
        cache: RecordingCache,
        resolver: QueryResolver,
        freshness: Freshness,
        capsules: CapsuleRecordings,
        *,
        clock: Callable[[], float],
        count: Callable[[ResolvedQuery, Recording, str, CacheStatus], None],
    ) -> None:
        """Take what hits depend on, and what counts one for a session."""
        self.cache = cache
        self.resolver = resolver
        self.freshness = freshness
        self.capsules = capsules
        self.clock = clock
        self.count = count

    def repeatable(
        self,
        recording: LoadedRecording,
        resolved: ResolvedQuery,
        client: Client,
        coding: str,
        *,
        status: CacheStatus,
        is_encoded: bool,
    ) -> RepeatableHit:
        """Return the hit that a client is served, to repeat it.

        `coding` is the content coding that the client prefers; `is_encoded` if the answer has it. Hits are
        counted with the `status` of the answer.
        """
        return RepeatableHit(self, recording, resolved, client, coding, status=status, is_encoded=is_encoded)


class RepeatableHit:
    """A recording that was served from memory, or the page cache, to a client without a token."""

    __slots__ = (
        "_capsules",
        "_coding",
        "_freshness",
        "_is_encoded",
        "_lifetime",
        "_repeater",
        "_resolved",
        "_status",
        "_tail",
        "_template",
    )

    def __init__(
        self,
        repeater: HitRepeater,
        recording: LoadedRecording,
        resolved: ResolvedQuery,
        client: Client,
        coding: str,
        *,
        status: CacheStatus,
        is_encoded: bool,
    ) -> None:
        self._repeater = repeater
        self._template = ref(recording.template)  # it must not stay in memory for longer than the hot tier holds it
        """That of the recording, which is another one after that was read again."""
        self._status = status
        self._resolved = resolved
        self._freshness = repeater.freshness
        self._capsules = repeater.capsules.capsules
        """Those that had no recording of the query: others, which were read since, may have one."""
        self._lifetime = repeater.freshness.lifetime(recording)
        self._tail = recording.template.for_sessions(client.envelope, client.base_url)
        self._coding = coding
        self._is_encoded = is_encoded

    def repeat(self, session_id: str) -> tuple[int, tuple[bytes, ...]] | None:
        """Return the age in s and the body for another session, and count the hit; call it in the event loop.

        None where the recording is no longer there at once, stored or fresh, or the query may mean something else now:
        nothing is counted then. The name of the session has only letters, digits, `_` and `-`.
        """
        repeater = self._repeater
        if repeater.freshness is not self._freshness or not repeater.resolver.is_current(self._resolved):
            return None
        if repeater.capsules.capsules is not self._capsules:
            return None
        recording = repeater.cache.find_at_once(self._resolved.key)
        if recording is None or recording.template is not self._template():
            return None
        now = repeater.clock()
        age = now - recording.stored_at
        if not 0 <= age < self._lifetime:
            return None
        tail = self._tail.fill(session_id, now)
        if self._coding == IDENTITY:
            body = (BEGIN, *recording.head.pieces(), tail)
        else:
            head = repeater.cache.compressed_head(recording, self._coding)
            if (head is not None) != self._is_encoded:
                return None
            body = head.body(tail) if head else (BEGIN, *recording.head.pieces(), tail)
        repeater.count(self._resolved, recording, session_id, self._status)
        return int(age), body
