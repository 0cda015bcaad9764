"""The names of keys in Redis.

All keys of one dispatcher begin with a prefix that contains the version of this layout and the URL of the dispatcher.
It is a hash tag, so that a cluster has them in one slot, where scripts change them atomically. A release with another
layout uses another version, and does not see these keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

LAYOUT: Final = 1
"""Version of the layout of keys and values in Redis."""


@dataclass(frozen=True, slots=True)
class Keyspace:
    """The keys of one dispatcher."""

    prefix: str

    @classmethod
    def of(cls, upstream: str) -> Keyspace:
        """Return the keys for the recordings of the dispatcher with a URL."""
        parts = urlsplit(upstream)
        url = urlunsplit((parts.scheme, parts.netloc.casefold(), parts.path.rstrip("/"), "", ""))
        return cls(f"{{oda-proxy:{LAYOUT}:{quote(url, safe=':/')}}}")

    def key(self, *names: str) -> str:
        """Return the key with a name."""
        return ":".join((self.prefix, *names))
