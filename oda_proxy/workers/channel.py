"""Messages between the parent process and a worker: JSON objects, one a line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINE: Final = 64 * 1024
"""Bytes of a message."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker reports to the parent process; `message` is of the error that ends it."""

    event: Literal["ready", "heartbeat", "failed"]
    message: str = ""


@dataclass(frozen=True, slots=True)
class Roles:
    """What the parent process announces to all workers: the number of the leader, and who is ready."""

    leader: int | None
    ready: tuple[int, ...]


def encode(message: Report | Roles) -> bytes:
    """Return a message as one line."""
    return f"{json.dumps(asdict(message))}\n".encode("ascii")


class Lines:
    """Splits a stream into messages; raises ValueError for a line that is too long, or no JSON object."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Yield the messages that are complete with these bytes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            raise ValueError(f"a message of a worker has more than {MAX_LINE} bytes")
        for line in lines:
            members = json.loads(line)
            if not isinstance(members, dict):
                raise ValueError("a message of a worker is no JSON object")  # noqa: TRY004 - as for other lines
            yield members


def read_report(members: dict[str, Any]) -> Report:
    """Return the report in a message; raises KeyError or ValueError where it is none."""
    event = members["event"]
    if event not in {"ready", "heartbeat", "failed"}:
        raise ValueError(f"{event!r} is no event of a worker")
    return Report(event, str(members.get("message", "")))


def read_roles(members: dict[str, Any]) -> Roles:
    """Return the roles in a message; raises KeyError, TypeError or ValueError where it has none."""
    leader = members["leader"]
    return Roles(None if leader is None else int(leader), tuple(int(number) for number in members["ready"]))
