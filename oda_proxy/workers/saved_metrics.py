"""The counters of workers in files, so that their sum never falls where one of them ends.

<folder>/<number>.metrics    the counters of a worker, and of those that had its number before it

A worker continues from the file of the one before it, and writes its counters before it reports them: whatever was in
a sum is in the files.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Final

from oda_proxy.metrics.snapshot import counters_of, from_json, to_json, total

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from oda_proxy.metrics.snapshot import Snapshot

_log = logging.getLogger(__name__)

INTERVAL: Final = 5.0
"""Seconds between two times that counters are written: as much is lost where a worker is killed."""


class SavedMetrics:
    """The metrics of the worker with a number; `read` returns those of this process."""

    def __init__(self, folder: Path, number: int, count: int, read: Callable[..., Awaitable[Snapshot]]) -> None:
        """Take the folder, the number of this worker, the number of workers, and `metrics_page.snapshot_of`."""
        self.others = tuple(other for other in range(count) if other != number)
        """The numbers of the other workers."""
        self._folder = folder
        self._number = number
        self._read = read
        self._before = self.saved(number)
        self._lock = asyncio.Lock()

    async def snapshot(self, *, with_store: bool = True) -> Snapshot:
        """Return the values of this worker; the counters include those of the workers before it, and are saved."""
        snapshot = total([await self._read(with_store=with_store), self._before])
        async with self._lock:
            await asyncio.to_thread(self._write, counters_of(snapshot))
        return snapshot

    async def keep_saving(self) -> None:
        """Write the counters now and then, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self.snapshot(with_store=False)

    def saved(self, number: int) -> Snapshot:
        """Return the counters that a worker has last saved; none where there are none. Blocks."""
        try:
            return from_json(json.loads(self._file(number).read_bytes()))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            _log.warning("the counters of worker %d are lost: %s", number + 1, error)
            return {}

    def _write(self, counters: Snapshot) -> None:
        temporary = self._file(self._number).with_suffix(".new")
        try:
            temporary.write_text(json.dumps(to_json(counters)), "utf-8")
            temporary.replace(self._file(self._number))
        except OSError as error:  # the folder is removed at the end
            _log.debug("the counters of this worker are not saved: %s", error)

    def _file(self, number: int) -> Path:
        return self._folder / f"{number}.metrics"
