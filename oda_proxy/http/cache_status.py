"""The header `Cache-Status`, which reports how the proxy handled a request (RFC 9211)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Forwarded = Literal["uri-miss", "bypass", "request", "stale"]


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """One member of the header; with neither `hit` nor `forwarded`, the proxy answered by itself.

    `detail` is a short word for a person: letters, digits, `-`.
    """

    hit: bool = False
    forwarded: Forwarded | None = None
    status: int | None = None
    stored: bool = False
    collapsed: bool = False
    """Whether the request was collapsed into another one instead of being forwarded."""
    detail: str = ""

    def __str__(self) -> str:
        parts = ["oda-proxy"]
        if self.hit:
            parts.append("hit")
        if self.forwarded:
            parts.append(f"fwd={self.forwarded}")
        if self.status is not None:
            parts.append(f"fwd-status={self.status}")
        if self.stored:
            parts.append("stored")
        if self.collapsed:
            parts.append("collapsed")
        if self.detail:
            parts.append(f"detail={self.detail}")
        return "; ".join(parts)
