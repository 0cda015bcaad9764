"""Where a redirect of the dispatcher leads a client that must stay with the proxy."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from oda_proxy.http.routes import MOUNT


def rewrite_location(location: str, *, upstream: str, base_url: str) -> str:
    """Point a `Location` at the proxy where it names the dispatcher; leave others as they are.

    The dispatcher's locations are absolute: its own address as configured there, which need not be the one we ask
    (`upstream`), with a path that ends in the public mount. `base_url` is the proxy as the client knows it, with its
    prefix, without a slash at the end.
    """
    asked, there = urlsplit(upstream), urlsplit(location)
    base = asked.path.rstrip("/")
    if not there.netloc and not there.path.startswith("/"):
        return location  # relative to what the client asked for: right as it is
    segments = there.path.split("/")
    if there.netloc in {"", asked.netloc} and f"{there.path}/".startswith(f"{base}/"):
        path = there.path[len(base) :]
    elif MOUNT in segments:
        path = "/" + "/".join(segments[segments.index(MOUNT) + 1 :])
    else:
        return location
    ours = urlsplit(base_url)
    return urlunsplit((ours.scheme, ours.netloc, ours.path + path, there.query, there.fragment))
