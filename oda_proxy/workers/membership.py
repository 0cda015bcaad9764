"""What a worker knows of the others: who leads, as the parent process announces it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from oda_proxy.errors import InternalError
from oda_proxy.workers.channel import Lines, Report, Roles, encode, read_roles
from oda_proxy.workers.supervision import HEARTBEAT

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Awaitable, Callable

_log = logging.getLogger(__name__)


class Membership:
    """The number of this worker, and the roles of all; `closing` is set when this worker stops."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.roles = Roles(None, ())
        self.closing = False
        self.is_orphan = False
        """Whether the parent process has ended."""
        self.leading = asyncio.Event()
        """Set once this worker leads, and has resumed the jobs of the leader before."""
        self.others_ended = asyncio.Event()
        """Set while no other worker runs."""

    @property
    def leads(self) -> bool:
        """Whether this worker is the leader."""
        return self.roles.leader == self.number

    @property
    def others(self) -> tuple[int, ...]:
        """The numbers of the other workers that are ready."""
        return tuple(number for number in self.roles.ready if number != self.number)


@asynccontextmanager
async def connected(
    channel: socket.socket,
    membership: Membership,
    *,
    lead: Callable[[], Awaitable[None]],
    on_end: Callable[[], None],
) -> AsyncIterator[None]:
    """Report to the parent process that this worker is ready and alive, and take roles from it, until the block ends.

    `lead` is called once, when this worker is to lead; `on_end` when the parent process has ended, or `lead` fails.
    """
    reader, writer = await asyncio.open_connection(sock=channel)

    async def take_roles() -> None:
        try:
            lines = Lines()
            while data := await _read(reader):
                for members in lines.feed(data):
                    membership.roles = read_roles(members)
                    if membership.others:
                        membership.others_ended.clear()
                    else:
                        membership.others_ended.set()
                    if membership.leads and not membership.leading.is_set():
                        await lead()
                        membership.leading.set()
            membership.is_orphan = True
            _log.warning("the parent process has ended: stopping")
        except Exception as error:  # noqa: BLE001 - another worker can lead
            _log.error("%s", InternalError(error).log_line)
        on_end()

    async def report() -> None:
        with suppress(ConnectionError):  # `take_roles` notices that the parent process has ended
            writer.write(encode(Report("ready")))
            while True:
                await writer.drain()
                await asyncio.sleep(HEARTBEAT)
                writer.write(encode(Report("heartbeat")))

    tasks = [asyncio.create_task(work()) for work in (take_roles, report)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Return bytes that have come; none at the end of the parent process."""
    try:
        return await reader.read(65536)
    except ConnectionError:
        return b""
