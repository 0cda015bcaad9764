"""Calls of scripts in Redis that fail soon where it is away, and whether it is."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from oda_proxy.errors import OdaProxyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import redis.asyncio

    from oda_proxy.store.redis.keyspace import Keyspace

T = TypeVar("T")

_log = logging.getLogger(__name__)

TIMEOUT: Final = 1.5
"""Seconds that a call may take."""
PAUSE: Final = 1.0
"""Seconds after a failed call in which others fail at once."""


class RedisAwayError(OdaProxyError):
    """Redis cannot be reached."""

    detail = "redis-away"


async def not_swallowing_cancellation(call: Awaitable[T]) -> T:
    """Await a call of redis-py; raise CancelledError where it drops that.

    redis-py sends commands with `asyncio.wait_for`, which in Python 3.11 returns as if nothing had happened where it is
    cancelled just when they were sent (https://github.com/python/cpython/issues/86296).
    """
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    try:
        return await call
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError


class Connection:
    """Calls scripts on the keys of one dispatcher; `clock` returns s and is monotonic, `today` s since 1970 (UTC)."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keyspace,
        *,
        name: str,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], float] = time.time,
    ) -> None:
        """Take a client and the keys; `name` is the URL of Redis, without credentials."""
        self.client = client
        self.keys = keys
        self.away_since: float | None = None
        """Since when Redis is away, in s since 1970 (UTC); None where it is not."""
        self._name = name
        self._clock = clock
        self._today = today
        self._next_try = float("-inf")
        self._scripts: dict[str, Any] = {}

    async def call(self, script: str, *arguments: str | bytes | float) -> Any:
        """Run a script with the prefix of all keys as its key. Raises RedisAwayError."""
        if self._clock() < self._next_try:
            raise RedisAwayError(f"cannot reach {self._name}")
        if script not in self._scripts:
            self._scripts[script] = self.client.register_script(script)
        try:
            async with asyncio.timeout(TIMEOUT):
                result = await not_swallowing_cancellation(self._scripts[script]([self.keys.prefix], arguments))
        except Exception as error:
            self._note_failure(error)
            raise RedisAwayError(f"cannot reach {self._name}") from error
        self._note_success()
        return result

    def _note_failure(self, error: Exception) -> None:
        self._next_try = self._clock() + PAUSE
        if self.away_since is None:
            self.away_since = self._today()
            _log.warning(
                "Redis at %s is away (%s): this server shares its jobs and limits with no other until it is back",
                self._name,
                type(error).__name__,
            )

    def _note_success(self) -> None:
        if self.away_since is not None:
            _log.warning(
                "Redis at %s is back after %.0f s: jobs and limits are shared again",
                self._name,
                self._today() - self.away_since,
            )
            self.away_since = None
