"""The place of an application among those of several upstreams of one server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class NamedUpstream:
    """One of several upstreams: its name, its prefix in the address of this server, and its own URL."""

    name: str
    prefix: str
    """`/` for the root."""
    url: str


@dataclass(frozen=True, slots=True)
class Place:
    """The place of an application among those of all upstreams of the server."""

    own: NamedUpstream
    upstreams: Sequence[NamedUpstream]

    def links(self, url: str) -> list[tuple[str, str]]:
        """Return the name of each upstream with the address of its pages; `url` is that of the application itself."""
        base = url.removesuffix(self.own.prefix.rstrip("/"))
        return [(one.name, f"{base}{one.prefix.rstrip('/')}/-/") for one in self.upstreams]


PLACE = web.AppKey("place among upstreams", Place)
"""In the application of one of several upstreams."""
