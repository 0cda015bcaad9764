"""What a proxy uses beside its store and its upstream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.handlers.capsule_recordings import CapsuleRecordings
    from oda_proxy.http.message import Upstream
    from oda_proxy.jobs.journal import Journal
    from oda_proxy.jobs.observer import QueryObserver
    from oda_proxy.jobs.replicas import Replicas
    from oda_proxy.query.audience import TokenVerifier
    from oda_proxy.query.descriptions import Descriptions
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.collections import Collections
    from oda_proxy.store.near_misses import MissHandler
    from oda_proxy.upstream.description_cache import DescriptionCache


class OtherProcesses(Protocol):
    """The other processes of this server."""

    async def have_served(self, session_id: str) -> bool:
        """Return whether one of them has served a recording to a session."""

    async def expire_descriptions(self) -> None:
        """Have all of them fetch descriptions again."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a proxy uses beside its store and its upstream; where one is None, the proxy makes a plain one."""

    instruments: Descriptions | None = None
    """Descriptions that say what the parameters of a query mean; without them, values are compared as text."""
    tokens: TokenVerifier | None = None
    description_cache: DescriptionCache | None = None
    journal: Journal | None = None
    observer: QueryObserver | None = None
    miss_handler: MissHandler | None = None
    describing: Upstream | None = None
    """Where descriptions are fetched; None for the upstream of the proxy."""
    others: OtherProcesses | None = None
    """The other processes of the server."""
    is_same: Callable[[Recording, Recording], bool] | None = None
    """Whether two answers are equal but for what is volatile; without it, their products are compared byte by byte."""
    capsules: CapsuleRecordings | None = None
    """Recordings that answer before those of the store; None for none."""
    collections: Collections | None = None
    """The collections that clients choose by their address; None for none."""
    replicas: Replicas | None = None
    """Servers on other hosts that share the store."""
