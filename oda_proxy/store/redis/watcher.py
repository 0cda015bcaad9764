"""Follows the changes of an index in Redis, in a thread.

Redis has the last changes as a stream, each under the version and its time. A change that was missed, whatever the
reason, shows in a gap between versions: then every recording counts as changed once. (The client-side caching of
redis-py has no such numbers: what is lost with a connection does not show before that is found broken.)
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from oda_proxy.store.redis.recent_changes import RecentChanges

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.redis.index import RedisIndex

_log = logging.getLogger(__name__)

LOOK_EVERY: Final = 0.5
"""Seconds between two looks at the changes where nothing wakes the thread."""


class ChangeWatcher:
    """Follows which recordings of an index have changed, and whether Redis can be reached."""

    def __init__(self, index: RedisIndex) -> None:
        self.is_connected = True
        """Whether the last look succeeded."""
        self._index = index
        self._changes = RecentChanges()
        self._last = ""
        """The ID of the last change that is known; empty before the first look."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="redis-changes", daemon=True)

    @property
    def moment(self) -> Hashable | None:
        """The number of changes that were noted here; None before the first look. While Redis is away, it stays."""
        return self._changes.moment if self._last else None

    def start(self) -> None:
        """Look once, and begin to follow."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(2 * LOOK_EVERY + 1)

    def may_have_changed(self, key: Key, since: Hashable) -> bool:
        """Return whether a recording may have been replaced or removed since a moment; does not block."""
        return self._changes.may_have_changed(key, since)

    def note(self, key: Key) -> None:
        """Note a change by this process, which is heard of again later."""
        self._changes.note(key)

    def note_failure(self) -> None:
        """Note that a command failed: until the next look, others need not wait for the same."""
        self.is_connected = False

    def look(self) -> None:
        """Read the changes since the last look. Raises redis.RedisError."""
        version, found = self._index.changes(self._last or "-")
        newest = found[-1][0] if found else ""
        if not found or _number(newest) < version:  # another release, say, has changed it, which writes no stream
            newest = f"{version}-0"
        if newest != self._last:
            if self._last:
                self._note_each(found, version)
            self._last = newest
        self.is_connected = True

    def _note_each(self, found: Sequence[tuple[str, str]], version: int) -> None:
        """Note the changes after the first one, which is the last known; where any is missing, that all may have."""
        is_complete = bool(found) and found[0][0] == self._last and len(found) - 1 == version - _number(self._last)
        keys = [key for _, key in found[1:]]
        if not is_complete or "" in keys:
            _log.debug("not all changes in Redis are known: recordings in memory are compared once")
            self._changes.note_all()
            return
        for key in keys:
            self._changes.note(key)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._index.wait_for_change(self._last, LOOK_EVERY)
                self.look()
            except Exception as error:  # noqa: BLE001 - whatever the library raises, the next look may succeed
                if self.is_connected:
                    _log.debug("cannot follow the changes in Redis: %s", type(error).__name__)
                self.is_connected = False
                self._stopping.wait(LOOK_EVERY)


def _number(change: str) -> int:
    return int(change.partition("-")[0])
