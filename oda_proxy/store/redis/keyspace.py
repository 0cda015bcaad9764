"""The names of keys in Redis.

All keys of one dispatcher begin with a prefix that contains the version of this layout and the URL of the dispatcher.
It is a hash tag, so that a cluster has them in one slot, where scripts change them atomically. A release with another
layout, or another format of rows, uses another version, and does not see these keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from oda_proxy.recordings.recording import FORMAT

LAYOUT: Final = f"1.{FORMAT}"
"""Version of the layout of keys and values in Redis, and the format of recordings in it."""

_TYPES: Final = {
    "hash": "recording earlier head texts totals usage limits:breaker requests "
    "collections collection collected contents noted owners names descriptions fetched lone collecting",
    "zset": "keys by product members evict history histories counts replaced pending place limits:slots",
    "set": "text garbage facts with sessions jobs",
    "stream": "changes",
    "string": "version fence claim index-name lease state ended watched journal limits:due limits:pause",
}
"""The names with which keys of each type begin, after the prefix."""
_TYPE_OF: Final = {name: kind for kind, names in _TYPES.items() for name in names.split()}


@dataclass(frozen=True, slots=True)
class Keyspace:
    """The keys of one dispatcher."""

    prefix: str

    @classmethod
    def of(cls, upstream: str) -> Keyspace:
        """Return the keys for the recordings of the dispatcher with a URL."""
        return cls(f"{{oda-proxy:{LAYOUT}:{quote(_canonical(upstream), safe=':/')}}}")

    def key(self, *names: str) -> str:
        """Return the key with a name."""
        return ":".join((self.prefix, *names))

    def may_have_type(self, key: str, kind: str) -> bool:
        """Return whether a key of these may have a type of Redis; one without a type is gone."""
        name = key.removeprefix(f"{self.prefix}:")
        expected = _TYPE_OF.get(name, _TYPE_OF.get(name.partition(":")[0], kind))
        return kind in {expected, "none"}


def folder_of(upstream: str) -> str:
    """Return the name of the folder for the heads of the dispatcher with a URL, in this layout."""
    return f"{LAYOUT}-{quote(_canonical(upstream), safe='')}"


def _canonical(upstream: str) -> str:
    """Return a URL as all servers write it that mean the same dispatcher."""
    parts = urlsplit(upstream)
    return urlunsplit((parts.scheme, parts.netloc.casefold(), parts.path.rstrip("/"), "", ""))
