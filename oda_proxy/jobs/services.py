"""The services that jobs use, from the upstream to the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oda_proxy.compat.pipeline import RepairPipeline
    from oda_proxy.http.memory import ProcessingBudget
    from oda_proxy.jobs.journal import Journal
    from oda_proxy.jobs.observer import QueryObserver
    from oda_proxy.jobs.replicas import Replicas
    from oda_proxy.query.audience import TokenVerifier
    from oda_proxy.store.recording_cache import RecordingCache
    from oda_proxy.upstream.relay import Relay


@dataclass(frozen=True, slots=True)
class JobServices:
    """Where requests go, what repairs their answers, and who stores and observes them."""

    relay: Relay
    pipeline: RepairPipeline
    cache: RecordingCache
    budget: ProcessingBudget
    tokens: TokenVerifier
    journal: Journal
    observer: QueryObserver
    replicas: Replicas
