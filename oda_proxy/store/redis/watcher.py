"""Hears of changes of an index in Redis, in a thread: from a channel, and by looking, lest a message be lost."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

    from oda_proxy.store.redis.index import RedisIndex
    from oda_proxy.store.redis.keyspace import Keyspace

_log = logging.getLogger(__name__)

LOOK_EVERY: Final = 0.5
"""Seconds between two looks at the version: a lost message costs no more."""


class ChangeWatcher:
    """Follows the version of an index, and whether Redis can be reached."""

    def __init__(self, client: Redis, index: RedisIndex, keys: Keyspace) -> None:
        self._client: Any = client
        self._index = index
        self._channel = keys.key("changes")
        self._stopping = threading.Event()
        self._listeners: list[Callable[[str, str], None]] = []
        self._back: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run, name="redis-changes", daemon=True)
        self.version: int | None = None
        """The last version that was seen; None before the first. While Redis is away, it stays."""
        self.is_connected = True
        """Whether the last look succeeded."""

    def start(self) -> None:
        """Look once, and begin to follow."""
        self.version = self._index.version()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(2 * LOOK_EVERY + 1)

    def on_change(self, listener: Callable[[str, str], None]) -> None:
        """Call a listener in the thread after each message, with what happened (`put`, `removed`) and the key."""
        self._listeners.append(listener)

    def on_return(self, listener: Callable[[], None]) -> None:
        """Call a listener in the thread after each time that Redis can be reached again."""
        self._back.append(listener)

    def note(self, version: int) -> None:
        """Note the version after a change by this process."""
        if self.version is not None and version > self.version:
            self.version = version

    def note_failure(self) -> None:
        """Note that a command failed: until the next look, others need not wait for the same."""
        self.is_connected = False

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except Exception as error:  # noqa: BLE001 - whatever the library raises, the next look may succeed
                if self.is_connected:
                    _log.debug("cannot follow the changes in Redis: %s", type(error).__name__)
                self.is_connected = False
                self._stopping.wait(LOOK_EVERY)

    def _follow(self) -> None:
        """Follow the changes until that fails, or it is to stop."""
        with self._client.pubsub(ignore_subscribe_messages=True) as messages:
            messages.subscribe(self._channel)
            self._look()
            looked_at = time.monotonic()
            while not self._stopping.is_set():
                if message := messages.get_message(timeout=LOOK_EVERY):
                    self._hear(message.get("data"))
                if time.monotonic() - looked_at >= LOOK_EVERY or not self.is_connected:
                    self._look()
                    looked_at = time.monotonic()

    def _look(self) -> None:
        """Read the version; one that is lower belongs to an index that was restored."""
        self.version = self._index.version()
        if not self.is_connected:
            self.is_connected = True
            for listener in self._back:
                listener()

    def _hear(self, data: object) -> None:
        """Take a message: the version, what happened, and the key."""
        if not isinstance(data, bytes):
            return
        version, what, key = (*data.decode("utf-8", "replace").split(" ", 2), "", "")[:3]
        with suppress(ValueError):
            self.note(int(version))
        for listener in self._listeners:
            listener(what, key)
