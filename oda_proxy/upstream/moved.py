"""Redirects of a dispatcher that has moved: the same path below another address."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.http import headers

if TYPE_CHECKING:
    from oda_proxy.http.message import Headers, Request

MAX_MOVES = 3
"""Redirects that are followed for one request."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CREDENTIALS = ("authorization", "cookie")


class UpstreamMovedError(UpstreamUnreachableError):
    """The dispatcher redirects to another address, and the request must not be sent there."""

    detail = "moved"

    def __init__(self, url: str, new_url: str) -> None:
        super().__init__(url, f"it has moved to {new_url:.200}; start the proxy with --upstream {new_url:.200}")


def new_address(status: int, response_headers: Headers, request: Request, url: str) -> str | None:
    """Return the new address of a dispatcher, without a trailing slash; None where a response does not show that.

    The dispatcher's own redirects lead to other paths, and are for the client.
    """
    locations = headers.values(response_headers, "location")
    if status not in _REDIRECTS or len(locations) != 1:
        return None
    try:
        target = urlsplit(urljoin(f"{url}{request.path}", locations[0]))
        _ = target.port  # raises ValueError for one that is no number
    except ValueError:
        return None
    if target.scheme not in {"http", "https"} or not target.hostname or target.username is not None:
        return None
    address = f"{target.scheme}://{target.netloc}{target.path.removesuffix(request.path)}".rstrip("/")
    is_same_path = target.path.endswith(request.path) and request.path != "/"
    return address if is_same_path and address != url.rstrip("/") else None


def may_follow(request: Request, url: str, new_url: str) -> bool:
    """Return whether a request may be sent to the new address: a read, and no credentials to another server."""
    if request.at_most_once or request.method not in {"GET", "HEAD"}:
        return False
    old, new = urlsplit(url), urlsplit(new_url)
    if old.scheme == "https" and new.scheme != "https":
        return False
    names = {pair.partition("=")[0] for pair in request.query_string.split("&")}
    has_credentials = "token" in names or any(headers.values(request.headers, name) for name in _CREDENTIALS)
    return not has_credentials or old.hostname == new.hostname
