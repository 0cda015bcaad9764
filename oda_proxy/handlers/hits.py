"""Answers from recordings."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from oda_proxy.handlers.repeated_hits import HitRepeater
from oda_proxy.handlers.request_notes import note_recording
from oda_proxy.http.cache_control import CacheControl, cache_control
from oda_proxy.http.content_coding import IDENTITY, preferred
from oda_proxy.http.scope import EVERYTHING
from oda_proxy.jobs.running_job import ANONYMOUS
from oda_proxy.recordings.compressed import CODINGS
from oda_proxy.recordings.loaded import LoadedRecording
from oda_proxy.store.freshness import FOR_EVER, Freshness, Rule
from oda_proxy.store.recording_cache import answer_from

if TYPE_CHECKING:
    from oda_proxy.handlers.capsule_recordings import CapsuleRecordings
    from oda_proxy.handlers.policy import Policy
    from oda_proxy.handlers.query_tally import QueryTally
    from oda_proxy.http.answer import Answer
    from oda_proxy.http.cache_status import CacheStatus
    from oda_proxy.jobs.client import Client
    from oda_proxy.jobs.runtime import Runtime
    from oda_proxy.query.resolved import QueryResolver, ResolvedQuery
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.recording_cache import RecordingCache


class HitHandler:
    """Answers clients from recordings, compressed where a client accepts that.

    Answers are repeatable that depend on nothing but the bytes of their request, unless they are observed, or given
    after the time that their jobs took. Offline, recordings are always fresh.
    """

    def __init__(
        self,
        cache: RecordingCache,
        resolver: QueryResolver,
        policy: Policy,
        runtime: Runtime,
        tally: QueryTally,
        *,
        capsules: CapsuleRecordings,
        is_online: bool,
        is_observed: bool,
    ) -> None:
        self._cache = cache
        self._policy = policy
        self._clock = runtime.clock
        self._new_session = runtime.new_session
        self._tally = tally
        self._is_online = is_online
        rules = self._rules(policy.freshness)
        self._repeater = HitRepeater(cache, resolver, rules, capsules, clock=runtime.clock, count=tally.count_repeated)
        self._may_repeat = not is_observed and (is_online or policy.jobs.time_scale == 0)

    def set_freshness(self, freshness: Freshness) -> None:
        """Replace the rules by which recordings are fresh: answers are repeated no longer than these allow."""
        self._repeater.freshness = self._rules(freshness)

    def _rules(self, freshness: Freshness) -> Freshness:
        return freshness if self._is_online else Freshness((Rule("*", "*", FOR_EVER),))

    def answer(
        self, recording: Recording, client: Client, status: CacheStatus, resolved: ResolvedQuery | None = None
    ) -> Answer:
        """Answer a client from a recording; with `resolved`, the answer depends on no job, and may be repeatable."""
        envelope = client.envelope
        note_recording(client.request, recording)
        if envelope.query_status == "new":
            self._tally.count_saved(recording)
        if envelope.session_id in ANONYMOUS:
            envelope = replace(envelope, session_id=self._new_session())
        varies = self._policy.compress.applies_to(client.request)
        coding = preferred(client.request.headers, CODINGS) if varies else IDENTITY
        head = self._cache.compressed_head(recording, coding)
        repeatable = None
        if self._may_repeat and resolved and isinstance(recording, LoadedRecording) and _is_plain(client):
            is_same_for_all = recording.key == resolved.key and not (recording.gaps or client.request.scope.collection)
            is_settled = status.from_memory or not self._policy.memory  # the next one comes from where this one did
            repeat = partial(self._repeater.repeatable, recording, resolved, client, coding, status=status)
            repeatable = partial(repeat, is_encoded=head is not None) if is_same_for_all and is_settled else None
        return answer_from(
            recording,
            envelope,
            client.base_url,
            now=self._clock(),
            status=status,
            compressed=head,
            varies=varies,
            repeatable=repeatable,
        )


def _is_plain(client: Client) -> bool:
    """Return whether an answer depends on nothing of its client that may change."""
    request = client.request
    return client.envelope.token is None and request.scope == EVERYTHING and cache_control(request.headers) == _ANY


_ANY = CacheControl()
