"""Locks on jobs: of several processes on one folder, one polls the dispatcher for a job.

    jobs/<key>.lock    which process owns the job; its modification time is the heartbeat

A lock is free once its process has ended, as far as that can be seen on this host, or its heartbeat has stopped.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import secrets
import socket
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.files import atomic
from oda_proxy.files.ownership import make_folder, match_owner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from oda_proxy.jobs.runtime import Runtime
    from oda_proxy.query.cache_key import Key

_log = logging.getLogger(__name__)

HEARTBEAT: Final = 10.0
"""Seconds between two beats."""
STALE: Final = 60.0
"""Seconds without a beat, by the clock of the process that waits, after which a lock is free."""
RETRY: Final = 1.0
"""Seconds between two attempts to lock a job."""
MAX_SIZE: Final = 1024


class JobLocks:
    """The locks of this process in a folder; without a folder, every job is this process's own."""

    def __init__(self, folder: Path | None, runtime: Runtime) -> None:
        self._folder = folder / "jobs" if folder else None
        self._runtime = runtime
        self._owner = {"host": socket.gethostname(), "pid": os.getpid(), "id": secrets.token_hex(8)}
        self._has_failed = False
        self._seen: dict[Key, tuple[tuple[int, str], float]] = {}

    @asynccontextmanager
    async def hold(self, key: Key) -> AsyncIterator[bool]:
        """Hold the lock of a job, once its owner has released it; yields whether another process had it before."""
        if self._folder is None:
            yield False
            return
        waited = False
        while not await asyncio.to_thread(self._acquire, key):
            waited = True
            await self._runtime.sleep(RETRY)
        beating = asyncio.create_task(self._beat(key))
        try:
            yield waited
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            await asyncio.to_thread(self._release, key)

    async def is_locked(self, key: Key) -> bool:
        """Return whether another process owns a job."""
        return self._folder is not None and await asyncio.to_thread(self._is_held, key)

    async def _beat(self, key: Key) -> None:
        while True:
            await self._runtime.sleep(HEARTBEAT)
            with suppress(OSError):
                await asyncio.to_thread(os.utime, self._file(key))

    def _acquire(self, key: Key) -> bool:
        """Take a lock that is free; where the folder cannot be written, every job is this process's own."""
        try:
            with self._exclusively():
                if self._is_held(key):
                    return False
                # not flushed, because the job waits for it: no process survives a loss of power
                atomic.write(self._file(key), json.dumps(self._owner).encode("ascii"), flush=False)
                return True
        except OSError as error:
            if not self._has_failed:  # and so will each job, where the folder is read-only
                _log.warning("cannot lock jobs against other processes: %s", error.strerror or error)
            self._has_failed = True
            return True
        finally:
            if len(self._seen) > _MAX_SEEN:
                self._seen.clear()

    def _is_held(self, key: Key) -> bool:
        """Return whether another process that lives has a lock."""
        file = self._file(key)
        try:
            beat, text = file.stat().st_mtime_ns, ""
            with suppress(PermissionError):  # of a process of another user: its heartbeat can be seen
                text = file.read_text("ascii", "replace")[:MAX_SIZE]
        except OSError:  # there is no lock, or the folder cannot be read
            self._seen.pop(key, None)
            return False
        owner = _parse(text)
        if owner == self._owner or self._has_ended(owner):
            return False
        now = self._runtime.clock()
        seen, since = self._seen.get(key, (None, now))
        if seen != (beat, text):
            self._seen[key] = ((beat, text), now)
            return True
        return now - since <= STALE

    def _has_ended(self, owner: dict[str, Any]) -> bool:
        """Return whether a process of this host has ended."""
        pid = owner.get("pid")
        if owner.get("host") != self._owner["host"] or not isinstance(pid, int) or pid <= 0:
            return False
        if pid == os.getpid():
            return owner.get("id") not in _OF_THIS_PROCESS
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False

    def _release(self, key: Key) -> None:
        with suppress(OSError), self._exclusively():
            if _parse(self._file(key).read_text("ascii", "replace")[:MAX_SIZE]) == self._owner:
                self._file(key).unlink()

    def _file(self, key: Key) -> Path:
        assert self._folder is not None  # noqa: S101 - for the type checker
        return self._folder / f"{key}.lock"

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Keep other processes from looking at locks meanwhile."""
        assert self._folder is not None  # noqa: S101 - for the type checker
        make_folder(self._folder)
        _OF_THIS_PROCESS.add(str(self._owner["id"]))
        path = self._folder / "locks"
        with path.open("a") as file:
            match_owner(path, self._folder)
            with suppress(OSError):  # some network file systems have no locks
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


_MAX_SEEN: Final = 10_000
_OF_THIS_PROCESS: Final[set[str]] = set()
"""Ids of the owners in this process: a lock with its process id and another id is left from before a restart."""


def _parse(text: str) -> dict[str, Any]:
    try:
        owner = json.loads(text)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}
