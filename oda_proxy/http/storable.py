"""What may be stored of a response: whether at all, and with which headers (RFC 9111, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from oda_proxy.http.headers import directives, values

if TYPE_CHECKING:
    from oda_proxy.http.message import Headers

STORABLE_HEADERS: Final = frozenset({"content-language", "content-type", "etag", "last-modified"})
"""Headers that describe a body. All others may concern one client: cookies, request ids, allowed origins."""

_TRANSFER_HEADERS: Final = frozenset({"content-encoding", "content-length", "via"})
"""Headers of one transfer of a body."""

_CACHE_HEADERS: Final = frozenset({"cache-control", "vary"})

_STATUS_HEADERS: Final = frozenset({"location", "retry-after", "www-authenticate"})
"""Headers that belong to a status."""

_NORMALISED: Final = frozenset({"accept-datetime", "accept-encoding", "authorization", "cookie", "origin"})
"""Request headers in `Vary` by which no stored response varies.

Bodies are stored uncompressed, requests with credentials are not answered from a cache, headers for one origin are not
stored, and `Accept-Datetime` is not forwarded.
"""


def stored_headers(headers: Headers) -> Headers:
    """Return the headers of a response that may be returned to other clients."""
    return tuple((name, value) for name, value in headers if name.casefold() in STORABLE_HEADERS)


def shared_headers(headers: Headers) -> Headers:
    """Return the headers of a response that belong to its body and its transfer, and not to one client."""
    return tuple((name, value) for name, value in headers if name.casefold() in STORABLE_HEADERS | _TRANSFER_HEADERS)


def owner_headers(headers: Headers) -> Headers:
    """Return the headers of a response for the client that started its job, but may send another request by now.

    These are the shared ones, those of the status and for caches, and what the dispatcher allows browsers, which ignore
    it for another origin.
    """
    names = _CACHE_HEADERS | _STATUS_HEADERS
    others = tuple(pair for pair in headers if pair[0].casefold() in names or is_cors_header(pair[0]))
    return (*shared_headers(headers), *others)


def is_cors_header(name: str) -> bool:
    """Return whether a header belongs to the CORS protocol."""
    return name.casefold().startswith("access-control-")


def storage_refusal(headers: Headers) -> str:
    """Return why a response may not be stored for other clients, as a detail of `Cache-Status`; empty if it may."""
    for directive in ("no-store", "private"):
        if directive in directives(headers):
            return f"upstream-{directive}"
    return "upstream-varies" if "*" in varying_names(headers) else ""


def varying_names(headers: Headers) -> frozenset[str]:
    """Return the request headers in `Vary` by which a stored response varies, in lower case."""
    names = {name.strip().casefold() for value in values(headers, "vary") for name in value.split(",")}
    return frozenset(names - _NORMALISED - {""})


def variant(headers: Headers, names: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Return the values of the request headers by which a response varies."""
    return tuple((name, ", ".join(values(headers, name))) for name in sorted(names))
