"""Header rules: what a proxy forwards (RFC 9110, sections 7.6.1 and 7.6.3), and how values are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from oda_proxy.http.message import Headers

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_VIA = "1.1 oda-proxy"


def values(headers: Headers, name: str) -> list[str]:
    """Return every value of a header, in the order sent; names are case-insensitive."""
    wanted = name.casefold()
    return [value for header, value in headers if header.casefold() == wanted]


def has_any(headers: Headers, names: frozenset[str]) -> bool:
    """Return whether one of the `names`, in lower case, is among the headers, with any value."""
    return not names.isdisjoint([header.casefold() for header, _ in headers])


def end_to_end(headers: Headers, *, without: Iterable[str] = ()) -> Headers:
    """Return the headers that a proxy forwards, with our `Via`; `without` names others to drop."""
    via = ", ".join([*values(headers, "via"), _VIA])
    return (*without_hop_by_hop(headers, without=("via", *without)), ("Via", via))


def without_hop_by_hop(headers: Headers, *, without: Iterable[str] = ()) -> Headers:
    """Return the headers that are not about one connection; `without` names others to drop."""
    dropped = {*_HOP_BY_HOP, *(name.casefold() for name in without)}
    for value in values(headers, "connection"):
        dropped.update(name.strip().casefold() for name in value.split(","))
    return tuple((name, value) for name, value in headers if name.casefold() not in dropped)


def directives(headers: Headers) -> frozenset[str]:
    """Return the directives of `Cache-Control` without an argument, in lower case (RFC 9111, section 5.2)."""
    return frozenset(
        directive.strip().casefold()
        for value in values(headers, "cache-control")
        for directive in value.split(",")
        if "=" not in directive
    )


def media_type(headers: Headers) -> str:
    """Return the media type of the body without parameters, in lower case; empty if there is none."""
    content_types = values(headers, "content-type")
    return content_types[0].partition(";")[0].strip().casefold() if content_types else ""
