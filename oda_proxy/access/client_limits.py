"""Limits of clients: requests a second and bytes a day, each as a bucket that fills up again.

The buckets are in memory that all processes of a server share. They are written without a lock: where two processes
write at the same moment, one request is not counted.
"""

from __future__ import annotations

import hashlib
import math
import mmap
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

DAY: Final = 86400.0
MAX_CLIENTS: Final = 8192
"""Clients that are counted; of more, those that were away the longest are forgotten."""

_SLOT: Final = Struct("<Qddd")
"""The digest of a client, the requests and bytes that it has left, and when that was so."""
_PROBES: Final = 8
"""Slots in which a client may be."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What one client may do; None for no limit."""

    rate: float | None = None
    """Requests a second, with bursts of twice as many after a pause."""
    daily_bytes: int | None = None
    """Bytes of responses a day, which are granted bit by bit."""

    def __bool__(self) -> bool:
        return self != ClientLimits()

    @property
    def burst(self) -> float:
        """How many requests may come at once."""
        return math.inf if self.rate is None else max(2 * self.rate, 1.0)

    @property
    def bytes_per_second(self) -> float:
        """How many bytes are granted in a second."""
        return math.inf if self.daily_bytes is None else self.daily_bytes / DAY


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request of a client is refused, and in how many s it may be sent again."""

    reason: str
    retry_after: float


class ClientLimiter:
    """Counts requests and bytes of clients; `clock` returns s and is the same for all processes."""

    def __init__(self, limits: ClientLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._slots = mmap.mmap(-1, MAX_CLIENTS * _SLOT.size)

    def set_limits(self, limits: ClientLimits) -> None:
        """Replace the limits in this process; what clients have left by the former ones stays, up to the new ones."""
        self._limits = limits

    def admit(self, client: str) -> Refusal | None:
        """Count a request of a client; return why it is refused, and then not counted, or None."""
        limits, digest, now = self._limits, _digest(client), self._clock()
        at, requests, size = self._read(digest, now)
        if limits.rate is not None and requests < 1:
            reason = f"this client has sent more than {limits.rate:g} requests a second"
            return Refusal(reason, (1 - requests) / limits.rate)
        if limits.daily_bytes is not None and size <= 0:
            reason = f"this client has received more than {limits.daily_bytes} bytes a day"
            return Refusal(reason, (1 - size) / limits.bytes_per_second)
        self._write(at, digest, requests - 1, size, now)
        return None

    def charge(self, client: str, size: int) -> None:
        """Count bytes that were sent to a client."""
        if self._limits.daily_bytes is not None:
            digest, now = _digest(client), self._clock()
            at, requests, left = self._read(digest, now)
            self._write(at, digest, requests, left - size, now)

    def _read(self, digest: int, now: float) -> tuple[int, float, float]:
        """Return the place of a client, and the requests and bytes that it has left."""
        limits, oldest, since = self._limits, 0, math.inf
        full = limits.burst, math.inf if limits.daily_bytes is None else float(limits.daily_bytes)
        for probe in range(_PROBES):
            at = (digest + probe) % MAX_CLIENTS * _SLOT.size
            found, requests, size, when = _SLOT.unpack_from(self._slots, at)
            if found == digest:
                passed = max(now - when, 0.0)
                requests = full[0] if limits.rate is None else min(requests + passed * limits.rate, full[0])
                size = full[1] if limits.daily_bytes is None else min(size + passed * limits.bytes_per_second, full[1])
                return at, requests, size
            if when < since:
                oldest, since = at, when
        return oldest, *full

    def _write(self, at: int, digest: int, requests: float, size: float, now: float) -> None:
        _SLOT.pack_into(self._slots, at, digest, requests, size, now)


@lru_cache(maxsize=1024)
def _digest(client: str) -> int:
    digest = hashlib.blake2b(client.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1
