"""Which recordings have changed lately: in memory, for readers in other threads, who take no lock."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

MAX_KEYS: Final = 10_000
"""Keys that are held; where more have changed since a moment, every recording may have."""


class RecentChanges:
    """The keys that have changed, each with the moment of its last change."""

    def __init__(self, limit: int = MAX_KEYS) -> None:
        self.moment = 0
        """The number of changes so far. What is read after it has at least these."""
        self._limit = limit
        self._lock = threading.Lock()
        self._keys: OrderedDict[str, int] = OrderedDict()
        self._complete_since = 0
        """The moment after which all changes are in `_keys`."""

    def note(self, key: str) -> None:
        """Note that the recording of a key has changed."""
        with self._lock:
            self._keys[key] = self.moment + 1
            self._keys.move_to_end(key)
            if len(self._keys) > self._limit:
                oldest = next(iter(self._keys))
                self._complete_since = self._keys[oldest]
                del self._keys[oldest]
            self.moment += 1  # last: who reads it finds the change, too

    def note_all(self) -> None:
        """Note that any recording may have changed."""
        with self._lock:
            self._complete_since = self.moment + 1
            self._keys.clear()
            self.moment += 1

    def may_have_changed(self, key: str, since: Hashable) -> bool:
        """Return whether a recording may have changed since a moment; does not block."""
        if not isinstance(since, int) or since < self._complete_since:
            return True
        return self._keys.get(key, 0) > since
