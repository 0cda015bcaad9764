"""The header `Cache-Status`, which reports how the proxy handled a request (RFC 9211)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, get_args

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
    from_memory: bool = field(default=False, compare=False)
    """Whether a hit was in memory: counted, and not part of the header."""

    def __str__(self) -> str:
        return _text(self)


@lru_cache(maxsize=256)
def _text(status: CacheStatus) -> str:
    parts = ["oda-proxy"]
    if status.hit:
        parts.append("hit")
    if status.forwarded:
        parts.append(f"fwd={status.forwarded}")
    if status.status is not None:
        parts.append(f"fwd-status={status.status}")
    if status.stored:
        parts.append("stored")
    if status.collapsed:
        parts.append("collapsed")
    if status.detail:
        parts.append(f"detail={status.detail}")
    return "; ".join(parts)


def read_cache_status(text: str) -> CacheStatus:
    """Return the member of the header that another process of this proxy wrote; what it does not know is left out."""
    members: dict[str, str] = {}
    for part in text.split(";")[1:]:
        name, _, value = part.strip().partition("=")
        members[name] = value
    forwarded, status = members.get("fwd"), members.get("fwd-status", "")
    return CacheStatus(
        hit="hit" in members,
        forwarded=next((reason for reason in get_args(Forwarded) if reason == forwarded), None),
        status=int(status) if status.isdecimal() else None,
        stored="stored" in members,
        collapsed="collapsed" in members,
        detail=members.get("detail", ""),
    )
