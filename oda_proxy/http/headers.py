"""Which headers of a message go on through a proxy (RFC 9110, sections 7.6.1 and 7.6.3)."""

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
    """Give every value of a header, in the order sent; the name's case does not matter."""
    return [value for given, value in headers if given.casefold() == name.casefold()]


def end_to_end(headers: Headers, *, without: Iterable[str] = ()) -> Headers:
    """Give the headers that the next one is to see, with our `Via`; `without` names others to leave out."""
    dropped = {*_HOP_BY_HOP, "via", *(name.casefold() for name in without)}
    for value in values(headers, "connection"):
        dropped.update(name.strip().casefold() for name in value.split(","))
    via = ", ".join([*values(headers, "via"), _VIA])
    return (*((name, value) for name, value in headers if name.casefold() not in dropped), ("Via", via))


def directives(headers: Headers) -> frozenset[str]:
    """Give the directives of `Cache-Control` that have no argument, in lower case (RFC 9111, section 5.2.1)."""
    return frozenset(
        directive.strip().casefold()
        for value in values(headers, "cache-control")
        for directive in value.split(",")
        if "=" not in directive
    )


def media_type(headers: Headers) -> str:
    """Give the type of the body without its parameters, in lower case, or nothing where none is named."""
    given = values(headers, "content-type")
    return given[0].partition(";")[0].strip().casefold() if given else ""
