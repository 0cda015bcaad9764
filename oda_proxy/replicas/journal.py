"""The journal of running jobs in Redis: a replica continues the job of one that has ended.

As on disk, nothing of the client is written: a job that was submitted with a token is only continued by a client with a
token.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from oda_proxy.jobs import journal
from oda_proxy.query.cache_key import Key
from oda_proxy.replicas.connection import RedisAwayError
from oda_proxy.replicas.leases import SCRIPT

if TYPE_CHECKING:
    from pathlib import Path

    from oda_proxy.jobs.journal import JournalEntry
    from oda_proxy.replicas.connection import Connection

_log = logging.getLogger(__name__)

MAX_JOBS: Final = 100
"""Jobs that are continued at once."""


class RedisJournal:
    """The journal in Redis; `lifetime` is how long an entry is stored, in s, and `owner` names this process."""

    def __init__(self, connection: Connection, owner: str, lifetime: float) -> None:
        self._connection = connection
        self._owner = owner
        self._lifetime = lifetime

    @property
    def folder(self) -> Path | None:
        """Return None: it is in no folder."""
        return None

    @property
    def is_durable(self) -> bool:
        """Return True."""
        return True

    async def write(self, entry: JournalEntry) -> None:
        """Write an entry of a job that is led here; where Redis is away, the job lives as long as this process."""
        content, lifetime = journal.serialise(entry), round(self._lifetime * 1000)
        try:
            await self._connection.call(SCRIPT, "write", entry.key, self._owner, content, lifetime)
        except RedisAwayError as error:
            _log.warning("cannot write a running job to the journal: %s", error)

    async def read(self, key: Key) -> JournalEntry | None:
        """Return the entry of a job; None where there is none, or it cannot be read."""
        try:
            content = await self._connection.call(SCRIPT, "entry", key)
            return journal.parse(key, content) if content else None
        except RedisAwayError:
            return None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            _log.warning("the entry of the job %s in the journal cannot be read: %s", key, error)
            return None

    async def remove(self, key: Key) -> None:
        """Remove the entry of a job that has ended here."""
        try:
            await self._connection.call(SCRIPT, "forget", key, self._owner)
        except RedisAwayError as error:
            _log.warning("cannot remove an ended job from the journal: %s", error)

    async def load(self) -> list[JournalEntry]:
        """Return the entries of jobs that no other replica leads, the oldest first."""
        try:
            keys = await self._connection.call(SCRIPT, "orphans", MAX_JOBS, self._owner)
        except RedisAwayError:
            return []
        entries = [await self.read(Key(key.decode("ascii", "replace"))) for key in keys]
        return sorted(filter(None, entries), key=lambda entry: entry.started_at)
