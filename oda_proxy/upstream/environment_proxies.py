"""The HTTP proxies that the environment names: `http_proxy`, `https_proxy` and `no_proxy`.

aiohttp can read them as well, but then it also reads `~/.netrc`, and would send the credentials there with the requests
of all clients.
"""

from __future__ import annotations

import logging
from functools import cache
from urllib.request import getproxies, proxy_bypass

from yarl import URL

_log = logging.getLogger(__name__)


def proxy_for(url: URL) -> URL | None:
    """Return the URL of the proxy for a request, credentials included, or None for a direct connection.

    A proxy without a scheme is an HTTP proxy, as for curl. Others than HTTP proxies are ignored, with one warning.
    """
    if url.host is None or not (text := getproxies().get(url.scheme, "")):
        return None
    if proxy_bypass(url.host) or proxy_bypass(f"{url.host}:{url.port}"):
        return None
    return _parse(text)


@cache
def _parse(text: str) -> URL | None:
    try:
        proxy = URL(text if "://" in text else f"http://{text}")
        is_usable = proxy.scheme == "http" and bool(proxy.host) and bool(proxy.port)
    except ValueError:
        is_usable = False
    if not is_usable:
        scheme = text.partition("://")[0] if "://" in text else "none"  # the rest may contain a password
        _log.warning("ignoring a proxy of the environment that is no HTTP proxy (scheme %.20s)", scheme)
        return None
    return proxy
