"""Requests that the page of another web site makes in a browser of its visitor (cross-site request forgery).

`Sec-Fetch-Site` (W3C Fetch Metadata) and `Origin` (RFC 6454, section 7) name the page for which a browser sends a
request. Other programs send neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from oda_proxy.errors import OdaProxyError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_OWN: Final = frozenset({"same-origin", "none"})
"""Values of `Sec-Fetch-Site` for requests of our own pages, and for those that a person has typed."""
_SAFE: Final = frozenset({"GET", "HEAD"})


class CrossSiteError(OdaProxyError):
    """A browser sends a request for the page of another site."""

    http_status = 403
    detail = "cross-site"

    def __init__(self, origin: str) -> None:
        super().__init__(f"the page of another site ({origin[:200]}) may not do that with a browser of its visitor")


def check_site(method: str, headers: Mapping[str, str], own_origins: Collection[str]) -> None:
    """Raise CrossSiteError for a request of the page of another site; following a link there is allowed.

    `headers` are read without regard to case, as by aiohttp. `own_origins` are those of this server beside the one that
    its `Host` names, and of sites that it trusts, in lower case.
    """
    origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site")
    if origin is not None:
        if is_own_origin(origin, headers.get("Host", ""), own_origins):
            return
        raise CrossSiteError(origin)
    if site is None or site in _OWN or (method in _SAFE and _is_link(headers)):
        return
    raise CrossSiteError(site)


def is_own_origin(origin: str, host: str, own_origins: Collection[str]) -> bool:
    """Return whether an `Origin` is that of a page of this server.

    A server that knows that its clients use https has no page without: anybody on the way can write such a page. One
    that knows of http alone may be behind a front end that does not name its scheme.
    """
    lower, own_host = origin.casefold(), host.casefold()
    if lower in own_origins or lower == f"https://{own_host}":
        return True
    return lower == f"http://{own_host}" and f"https://{own_host.removesuffix(':443')}" not in own_origins


def origin_of(url: str) -> str:
    """Return the origin of a URL as browsers send it, in lower case and without a default port."""
    scheme, _, rest = url.casefold().partition("://")
    default = {"http": ":80", "https": ":443"}.get(scheme, "")
    return f"{scheme}://{rest.partition('/')[0].removesuffix(default)}"


def host_of(url: str) -> str:
    """Return the host of a URL, with its port, as a `Host` has it."""
    return url.partition("://")[2].partition("/")[0]


def _is_link(headers: Mapping[str, str]) -> bool:
    """Return whether a person follows a link to a page, which then fills the window: not a frame, and no script."""
    return headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
