"""What a deployment configures of the proxy."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from oda_proxy.http.cors import CorsPolicy
from oda_proxy.http.scope import EVERYTHING, Scope
from oda_proxy.jobs.policy import JobPolicy
from oda_proxy.store.freshness import Freshness
from oda_proxy.store.hot_tier import DEFAULT_LIMIT

if TYPE_CHECKING:
    from oda_proxy.http.message import Request


class Compress(Enum):
    """Which clients receive recordings compressed, if they accept it."""

    AUTO = "auto"
    """Those on other machines: on this one, compression costs more time than it saves."""
    ALWAYS = "always"
    NEVER = "never"

    def applies_to(self, request: Request) -> bool:
        """Return whether the answer to a request depends on what the client accepts."""
        return self is Compress.ALWAYS or (self is Compress.AUTO and request.is_remote)


@dataclass(frozen=True, slots=True)
class Policy:
    """What a deployment configures of the proxy."""

    open_routes: frozenset[str] = frozenset()
    """Closed routes that are relayed all the same."""
    description_ttl: float = 300.0
    """Seconds for which a description is cached."""
    cors: CorsPolicy = field(default_factory=CorsPolicy)
    freshness: Freshness = field(default_factory=Freshness)
    jobs: JobPolicy = field(default_factory=JobPolicy)
    compress: Compress = Compress.AUTO
    as_of: Scope = EVERYTHING
    """The past time for requests that name none."""
    memory: int = DEFAULT_LIMIT
    """Bytes of recordings that are held in memory."""
