"""The leases of replicas in memory, by a clock; each replica can be cut off."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from oda_proxy.replicas.connection import RedisAwayError
from oda_proxy.replicas.leases import ENDED_TTL, Beat, Published

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oda_proxy.jobs.journal import JournalEntry
    from oda_proxy.query.cache_key import Key
    from oda_proxy.replicas.news import JobNews


@dataclass
class Table:
    """What Redis has."""

    clock: Callable[[], float]
    leases: dict[Key, tuple[int, str, float]] = field(default_factory=dict)
    """Fencing token, owner and end."""
    fences: dict[Key, int] = field(default_factory=dict)
    states: dict[Key, bytes] = field(default_factory=dict)
    ended: dict[Key, tuple[int, bytes, float]] = field(default_factory=dict)
    watched: set[Key] = field(default_factory=set)
    sessions: dict[Key, set[str]] = field(default_factory=dict)
    requests: dict[Key, dict[str, str]] = field(default_factory=dict)
    places: dict[str, dict[str, float]] = field(default_factory=dict)
    journal: dict[Key, JournalEntry] = field(default_factory=dict)
    news: list[JobNews] = field(default_factory=list)
    is_away: bool = False

    def lease(self, key: Key) -> tuple[int, str, float] | None:
        found = self.leases.get(key)
        return found if found and found[2] > self.clock() else None

    def announce(self, key: Key) -> None:
        for news in self.news:
            news.note(key)


@dataclass
class MemoryLeases:
    """The leases as one replica sees them; `put_fences` are the fencing tokens with which it stored recordings."""

    table: Table
    owner: str
    is_cut_off: bool = False

    def _check(self) -> None:
        if self.is_cut_off or self.table.is_away:
            raise RedisAwayError("cannot reach redis://redis.example")

    async def acquire(self, key: Key, ttl: float) -> tuple[bool, int]:
        self._check()
        if held := self.table.lease(key):
            return held[1] == self.owner, held[0]
        self.table.sessions.pop(key, None)
        if key not in self.table.journal:
            self.table.requests.pop(key, None)
        fence = self.table.fences[key] = self.table.fences.get(key, 0) + 1
        self.table.leases[key] = (fence, self.owner, self.table.clock() + ttl)
        self.table.announce(key)
        return True, fence

    async def publish(self, key: Key, fence: int, ttl: float, state: bytes, marks: Sequence[str] = ()) -> Beat:
        self._check()
        if not self._extend(key, fence, ttl):
            return Beat(is_held=False)
        self.table.sessions.setdefault(key, set()).update(marks)
        if state:
            self.table.states[key] = state
            self.table.announce(key)
        requested = self.table.requests.pop(key, {})
        return Beat(
            is_held=True,
            is_watched=key in self.table.watched,
            is_refresh_requested="refresh" in requested,
            stopped_by=requested.get("stop", ""),
        )

    def _extend(self, key: Key, fence: int, ttl: float) -> bool:
        held = self.table.lease(key)
        if (held and held[:2] != (fence, self.owner)) or (not held and self.table.fences.get(key, 0) > fence):
            return False
        self.table.leases[key] = (fence, self.owner, self.table.clock() + ttl)
        self.table.fences[key] = fence
        return True

    async def read(self, key: Key, *, is_watched: bool, fence: int = 0, marks: Sequence[str] = ()) -> Published:
        self._check()
        if is_watched:
            self.table.watched.add(key)
        held = self.table.lease(key)
        if held and held[0] == fence:
            self.table.sessions.setdefault(key, set()).update(marks)
        ended_fence, ended, until = self.table.ended.get(key, (0, b"", 0.0))
        if until <= self.table.clock():
            ended_fence, ended = 0, b""
        state = self.table.states.get(key, b"")
        is_refresh_requested = "refresh" in self.table.requests.get(key, {})
        return Published(held is not None, held[0] if held else 0, state, ended_fence, ended, is_refresh_requested)

    async def request(self, key: Key, what: str, text: str = "") -> bool:
        self._check()
        if not self.table.lease(key) and key not in self.table.journal:
            return False
        self.table.requests.setdefault(key, {})[what] = text or "1"
        self.table.announce(key)
        return True

    async def sessions(self, key: Key) -> set[str]:
        self._check()
        return set(self.table.sessions.get(key, ()))

    async def led(self) -> list[Key]:
        self._check()
        return [key for key in self.table.journal if self.table.lease(key)]

    async def release(self, key: Key, fence: int, ended: bytes = b"") -> bool:
        self._check()
        if not self._extend(key, fence, 1.0):
            return False
        del self.table.leases[key]
        self.table.states.pop(key, None)
        self.table.sessions.pop(key, None)
        if ended:
            self.table.requests.get(key, {}).pop("stop", None)
            self.table.ended[key] = (fence, ended, self.table.clock() + ENDED_TTL)
            self.table.journal.pop(key, None)
        self.table.announce(key)
        return True

    async def exists(self, key: Key) -> bool:
        self._check()
        ended = self.table.ended.get(key)
        return bool(self.table.lease(key) or key in self.table.journal or (ended and ended[2] > self.table.clock()))

    async def take_place(self, name: str, holder: str, limit: int, ttl: float) -> bool:
        self._check()
        now, places = self.table.clock(), self.table.places.setdefault(name, {})
        for other in [other for other, until in places.items() if until <= now]:
            del places[other]
        if holder not in places and len(places) >= limit:
            return False
        places[holder] = now + ttl
        return True

    async def leave_place(self, name: str, holder: str) -> None:
        self._check()
        self.table.places[name].pop(holder, None)


@dataclass
class MemoryJournal:
    """The journal as one replica sees it."""

    leases: MemoryLeases
    folder: None = None
    is_durable: bool = True

    async def write(self, entry: JournalEntry) -> None:
        if self._may_write(entry.key) and self.leases.table.lease(entry.key):
            self.leases.table.journal[entry.key] = entry

    async def read(self, key: Key) -> JournalEntry | None:
        return None if self._is_away else self.leases.table.journal.get(key)

    async def remove(self, key: Key) -> None:
        if self._may_write(key):
            self.leases.table.journal.pop(key, None)

    async def load(self) -> list[JournalEntry]:
        table = self.leases.table
        if self._is_away:
            return []
        free = (None, self.leases.owner)
        return [one for key, one in table.journal.items() if (table.lease(key) or (0, None, 0.0))[1] in free]

    @property
    def _is_away(self) -> bool:
        return self.leases.is_cut_off or self.leases.table.is_away

    def _may_write(self, key: Key) -> bool:
        held = self.leases.table.lease(key)
        return not self._is_away and (held is None or held[1] == self.leases.owner)
