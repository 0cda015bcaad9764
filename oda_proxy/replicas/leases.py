"""Leases on jobs in Redis: who leads a job, its published state and its end, and how it is continued.

redis-py's own `Lock` has no fencing token, without which a leader that was taken for dead could overwrite the recording
of its successor; what it has beside that is a part of `leases.lua`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from oda_proxy.query.cache_key import Key
from oda_proxy.store.redis.scripts import read_script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oda_proxy.replicas.connection import Connection

ENDED_TTL: Final = 120.0
"""Seconds for which the end of a job is stored: clients poll every second or two."""
WATCHED: Final = 30.0
"""Seconds for which a job counts as watched after a client of another replica waited for it."""

SCRIPT: Final = read_script(Path(__file__).with_name("leases.lua"))


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
    is_refresh_requested: bool = False
    """Whether a replica has requested a refresh that no leader has begun yet."""


@dataclass(frozen=True, slots=True)
class Beat:
    """What a leader learns when it extends its lease."""

    is_held: bool
    is_watched: bool = False
    """Whether a client of another replica waits for the job."""
    is_refresh_requested: bool = False
    stopped_by: str = ""
    """Who stops the job, through another replica; empty where nobody does."""


class LeaseTable(Protocol):
    """The leases of all replicas. Each method raises RedisAwayError."""

    async def acquire(self, key: Key, ttl: float) -> tuple[bool, int]:
        """Take a lease for some s, if it is free; return whether it is held now, and its fencing token."""

    async def publish(self, key: Key, fence: int, ttl: float, state: bytes, marks: Sequence[str] = ()) -> Beat:
        """Extend a lease and publish a state, unless that is empty, and marks of sessions that have joined the job."""

    async def read(self, key: Key, *, is_watched: bool, fence: int = 0, marks: Sequence[str] = ()) -> Published:
        """Return what is known of a job; `is_watched` says that a client waits for it here.

        `marks` are those of sessions that have joined it here; they count under the lease with a fencing token.
        """

    async def request(self, key: Key, what: str, text: str = "") -> bool:
        """Request `refresh` or `stop` of who leads a job, or will; return whether there is a job."""

    async def sessions(self, key: Key) -> set[str]:
        """Return the marks of the sessions that have joined a job, at any replica."""

    async def led(self) -> list[Key]:
        """Return the keys of the jobs that are led by any replica."""

    async def release(self, key: Key, fence: int, ended: bytes = b"") -> bool:
        """Release a lease, if it is held, and return whether it was; with `ended`, the job has ended."""

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

    async def publish(self, key: Key, fence: int, ttl: float, state: bytes, marks: Sequence[str] = ()) -> Beat:
        """Extend a lease and publish a state and marks."""
        held, watched, refresh, stopped_by = await self._connection.call(
            SCRIPT, "publish", key, self.owner, fence, _ms(ttl), state, _ms(ENDED_TTL), *marks
        )
        return Beat(held == 1, watched == 1, refresh == 1, stopped_by.decode("utf-8", "replace"))

    async def read(self, key: Key, *, is_watched: bool, fence: int = 0, marks: Sequence[str] = ()) -> Published:
        """Return what is known of a job."""
        watched = _ms(WATCHED) if is_watched else 0
        held, held_fence, state, ended_fence, ended, refresh = await self._connection.call(
            SCRIPT, "read", key, watched, _ms(ENDED_TTL), fence, *marks
        )
        return Published(held == 1, int(held_fence), bytes(state), int(ended_fence), bytes(ended), refresh == 1)

    async def request(self, key: Key, what: str, text: str = "") -> bool:
        """Request something of a leader."""
        return bool(await self._connection.call(SCRIPT, "request", key, what, text or "1", _ms(ENDED_TTL)) == 1)

    async def sessions(self, key: Key) -> set[str]:
        """Return the marks of the sessions that have joined a job."""
        return {mark.decode("utf-8", "replace") for mark in await self._connection.call(SCRIPT, "sessions", key)}

    async def led(self) -> list[Key]:
        """Return the keys of the jobs that are led."""
        return [Key(key.decode("utf-8", "replace")) for key in await self._connection.call(SCRIPT, "led")]

    async def release(self, key: Key, fence: int, ended: bytes = b"") -> bool:
        """Release a lease."""
        arguments = ("release", key, self.owner, fence, ended, _ms(ENDED_TTL))
        return bool(await self._connection.call(SCRIPT, *arguments) == 1)

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
