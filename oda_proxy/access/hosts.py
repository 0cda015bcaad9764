"""Under which names this server answers: a name of another site that resolves to it does not count (DNS rebinding)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from oda_proxy.errors import OdaProxyError
from oda_proxy.http.loopback import is_loopback

ANY: Final = "*"
"""Any name."""


class WrongHostError(OdaProxyError):
    """A request is for a host that this server is not (RFC 9110, section 15.5.20)."""

    http_status = 421
    detail = "wrong-host"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"this server does not answer as {host[:200]!r}; if that is its name, start it with --allowed-host, or "
            "with the --public-url that clients use"
        )


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """The names of this server, without ports and in lower case.

    `allowed` are those of `--allowed-host`, `own` others that are this server's in any case. `is_on_loopback` means
    that it listens on an address of this machine alone, or on all addresses.
    """

    allowed: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    is_on_loopback: bool = True

    def check(self, host: str | None) -> None:
        """Raise WrongHostError for the `Host` of a request for a page that must not be answered.

        Where no name was allowed explicitly, IP addresses and names without a dot are answered as well: no other site
        has such a name. Requests without a `Host` do not come from a browser.
        """
        if host is None or self._is_allowed(_name(host)):
            return
        raise WrongHostError(host)

    @property
    def is_for_all(self) -> bool:
        """Whether the names count for all requests, and not only for those for pages."""
        return bool(self.allowed) and ANY not in self.allowed

    def _is_allowed(self, name: str) -> bool:
        if ANY in self.allowed or name in self.allowed or name in self.own:
            return True
        if self.is_on_loopback and is_loopback(name):
            return True
        return not self.allowed and ("." not in name or _is_address(name))


def _name(host: str) -> str:
    """Return the name in a `Host`, without its port, in lower case; IPv6 addresses without brackets."""
    host = host.strip().casefold()
    if host.startswith("[") and "]" in host:
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
