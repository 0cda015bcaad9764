"""The HTTP proxies that the environment names: `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`.

aiohttp can read them as well, but then it also reads `~/.netrc`, and would send the credentials there with the requests
of all clients.
"""

from __future__ import annotations

from functools import cache
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from oda_proxy.errors import OdaProxyError
from oda_proxy.http.loopback import is_loopback

_ALL = "all"
_SCHEMES = frozenset({"http", "https"})


class UnusableProxyError(OdaProxyError):
    """The environment names a proxy that is not supported; a direct connection might go around a rule of the site."""

    exit_status = 2
    http_status = 502
    detail = "unreachable"

    def __init__(self, variable: str, text: str) -> None:
        scheme = text.partition("://")[0] if "://" in text else ""  # the rest may contain a password
        what = f"a proxy of the scheme {scheme!r:.20}" if scheme and scheme not in _SCHEMES else "no address of a proxy"
        super().__init__(
            f"{variable} of the environment names {what}; oda-proxy uses http:// and https:// proxies: "
            "name one of these, or set no_proxy for the host"
        )


def proxy_for(url: URL) -> URL | None:
    """Return the URL of the proxy for a request, credentials included, or None for a direct connection.

    A proxy without a scheme is an HTTP proxy, as for curl. This machine is always connected to directly. Raises
    UnusableProxyError.
    """
    proxies = getproxies()
    name = url.scheme if proxies.get(url.scheme) else _ALL
    if url.host is None or is_loopback(url.host) or not (text := proxies.get(name, "")):
        return None
    if proxy_bypass(url.host) or proxy_bypass(f"{url.host}:{url.port}"):
        return None
    if (proxy := _parse(text)) is None:
        raise UnusableProxyError(f"{name}_proxy", text)
    return proxy


def check_proxies() -> None:
    """Raise UnusableProxyError where the environment names one for any host."""
    for scheme in sorted(_SCHEMES):
        proxy_for(URL(f"{scheme}://any-host.invalid"))


@cache
def _parse(text: str) -> URL | None:
    """Parse the address of an HTTP proxy; None for anything else."""
    try:
        proxy = URL(text if "://" in text else f"http://{text}")
    except ValueError:
        return None
    return proxy if proxy.scheme in _SCHEMES and proxy.host and proxy.port else None
