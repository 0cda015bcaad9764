"""Leases on jobs in Redis: who leads a job, its published state and its end, and how it is continued.

redis-py's own `Lock` has no fencing token, without which a leader that was taken for dead could overwrite the recording
of its successor; what it has beside that is a part of `leases.lua`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from oda_proxy.query.cache_key import Key
    from oda_proxy.replicas.connection import Connection

ENDED_TTL: Final = 120.0
"""Seconds for which the end of a job is stored: clients poll every second or two."""
WATCHED: Final = 30.0
"""Seconds for which a job counts as watched after a client of another replica waited for it."""

SCRIPT: Final = Path(__file__).with_name("leases.lua").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Published:
    """What is known of a job of all replicas."""

    is_led: bool
    """Whether a replica holds its lease."""
    fence: int
    """The fencing token of the lease; 0 where there is none."""
    state: bytes
    """The state that its leader has published; empty where there is none."""
    ended_fence: int
    """The fencing token of the last leader that has ended its job; 0 where there is none."""
    ended: bytes
    """How that job ended; empty where there is none."""


class LeaseTable(Protocol):
    """The leases of all replicas. Each method raises RedisAwayError."""

    async def acquire(self, key: Key, ttl: float) -> tuple[bool, int]:
        """Take a lease for some s, if it is free; return whether it is held now, and its fencing token."""

    async def publish(self, key: Key, fence: int, ttl: float, state: bytes) -> tuple[bool, bool]:
        """Extend a lease and publish a state, unless that is empty; return whether it is held, and the job watched."""

    async def read(self, key: Key, *, is_watched: bool) -> Published:
        """Return what is known of a job; `is_watched` says that a client waits for it here."""

    async def release(self, key: Key, fence: int, ended: bytes = b"") -> None:
        """Release a lease, if it is held; with `ended`, the job has ended."""

    async def exists(self, key: Key) -> bool:
        """Return whether a replica leads a job, it can be continued, or has just ended."""

    async def take_place(self, name: str, holder: str, limit: int, ttl: float) -> bool:
        """Take one of `limit` places of a name for some s, or keep it; return whether it is held."""

    async def leave_place(self, name: str, holder: str) -> None:
        """Leave a place."""


class RedisLeases:
    """The leases in Redis; `owner` names this process."""

    def __init__(self, connection: Connection, owner: str) -> None:
        self._connection = connection
        self.owner = owner

    async def acquire(self, key: Key, ttl: float) -> tuple[bool, int]:
        """Take a lease."""
        held, fence = await self._connection.call(SCRIPT, "acquire", key, self.owner, _ms(ttl))
        return held == 1, int(fence)

    async def publish(self, key: Key, fence: int, ttl: float, state: bytes) -> tuple[bool, bool]:
        """Extend a lease and publish a state."""
        arguments = ("publish", key, self.owner, fence, _ms(ttl), state, _ms(ENDED_TTL))
        held, watched = await self._connection.call(SCRIPT, *arguments)
        return held == 1, watched == 1

    async def read(self, key: Key, *, is_watched: bool) -> Published:
        """Return what is known of a job."""
        held, fence, state, ended_fence, ended = await self._connection.call(
            SCRIPT, "read", key, _ms(WATCHED) if is_watched else 0
        )
        return Published(held == 1, int(fence), bytes(state), int(ended_fence), bytes(ended))

    async def release(self, key: Key, fence: int, ended: bytes = b"") -> None:
        """Release a lease."""
        await self._connection.call(SCRIPT, "release", key, self.owner, fence, ended, _ms(ENDED_TTL))

    async def exists(self, key: Key) -> bool:
        """Return whether there is a job."""
        return bool(await self._connection.call(SCRIPT, "exists", key) == 1)

    async def take_place(self, name: str, holder: str, limit: int, ttl: float) -> bool:
        """Take a place, or keep it."""
        return bool(await self._connection.call(SCRIPT, "take", name, holder, limit, _ms(ttl)) == 1)

    async def leave_place(self, name: str, holder: str) -> None:
        """Leave a place."""
        await self._connection.call(SCRIPT, "leave", name, holder)


def _ms(seconds: float) -> int:
    return max(round(seconds * 1000), 1)
