"""What the pages about a server show that is not in its proxy: when it started, its limits, whether it stops."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.store.eviction import Limits


@dataclass(slots=True)
class ServerState:
    """The state of a server; `started_at` is in s since 1970 (UTC)."""

    started_at: float = field(default_factory=time.time)
    limits: Limits | None = None
    """The limits of the store; None where there are none."""
    is_draining: bool = False
    """Whether it stops: it answers what it has, and is to get no further requests."""
    replicas: Callable[[], dict[str, Any]] | None = None
    """Returns what is known of servers that share the store; None where there are none."""
