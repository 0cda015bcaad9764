"""Time and randomness, as the jobs of a proxy see them: tests replace them."""

from __future__ import annotations

import asyncio
import secrets
import string
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def new_session() -> str:
    """Return a random session id, in the form that clients use."""
    return "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(16))


@dataclass(frozen=True, slots=True)
class Runtime:
    """The clock, in s since 1970 (UTC), a sleep of some s, and a source of session ids."""

    clock: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    new_session: Callable[[], str] = new_session
