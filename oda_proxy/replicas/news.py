"""Hears in Redis which jobs have changed, so that who waits need not read them all the time.

A message may be lost: who waits has a time-out, and reads the job again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.replicas.connection import not_swallowing_cancellation

if TYPE_CHECKING:
    from oda_proxy.query.cache_key import Key
    from oda_proxy.replicas.connection import Connection

_log = logging.getLogger(__name__)

CHANNEL: Final = "jobs-changed"
_RETRY: Final = 1.0
_QUIET: Final = 10.0
"""Seconds without a message after which the subscription is looked at."""


class JobNews:
    """Messages on jobs, by key: that a leader has published something, or that a client of another replica waits."""

    def __init__(self) -> None:
        self._events: defaultdict[Key, set[asyncio.Event]] = defaultdict(set)

    async def wait(self, key: Key, seconds: float) -> None:
        """Wait for a message on a job, at most some s."""
        event = asyncio.Event()
        self._events[key].add(event)
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            self._events[key].discard(event)
            if not self._events[key]:
                del self._events[key]

    def note(self, key: str) -> None:
        """Wake all that wait for a job."""
        for event in self._events.get(key, ()):  # type: ignore[call-overload]
            event.set()

    async def listen(self, connection: Connection) -> None:
        """Receive messages until it is cancelled."""
        channel = connection.keys.key(CHANNEL)
        if not hasattr(connection.client, "pubsub"):
            return  # a cluster, in some releases of redis-py: jobs are read each second
        while True:
            messages: Any = connection.client.pubsub(ignore_subscribe_messages=True)
            try:
                await not_swallowing_cancellation(messages.subscribe(channel))
                while True:
                    message = await not_swallowing_cancellation(messages.get_message(timeout=_QUIET))
                    if message:
                        self.note(bytes(message["data"]).decode("ascii", "replace").partition(" ")[2])
            except Exception as error:  # noqa: BLE001 - whatever the library raises, jobs are read each second
                _log.debug("cannot hear of jobs in Redis: %s", type(error).__name__)
            finally:
                try:
                    async with asyncio.timeout(_RETRY):
                        await messages.aclose()
                except Exception:  # noqa: BLE001, S110 - the connection is broken
                    pass
            await asyncio.sleep(_RETRY)
