"""Redirects of the dispatcher, rewritten so that clients stay with the proxy."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from oda_proxy.http.routes import MOUNT


def rewrite_location(location: str, *, upstream: str, base_url: str) -> str:
    """Return a `Location` that leads to the proxy if it leads to the dispatcher; others are unchanged.

    The dispatcher's locations are absolute: its own address as configured there, which can differ from `upstream`, with
    a path that ends in the public mount. `base_url` is the address of the proxy as the client knows it, with its
    prefix, without a trailing slash.
    """
    requested, target = urlsplit(upstream), urlsplit(location)
    base = requested.path.rstrip("/")
    if not target.netloc and not target.path.startswith("/"):
        return location  # relative to the request of the client
    segments = target.path.split("/")
    if target.netloc in {"", requested.netloc} and f"{target.path}/".startswith(f"{base}/"):
        path = target.path[len(base) :]
    elif MOUNT in segments:
        path = "/" + "/".join(segments[segments.index(MOUNT) + 1 :])
    else:
        return location
    ours = urlsplit(base_url)
    return urlunsplit((ours.scheme, ours.netloc, ours.path + path, target.query, target.fragment))
