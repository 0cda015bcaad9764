"""What a request allows a cache to answer with: `Cache-Control` and `Pragma` (RFC 9111, sections 5.2.1 and 5.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from oda_proxy.http.headers import has_any, values

if TYPE_CHECKING:
    from oda_proxy.http.message import Headers


@dataclass(frozen=True, slots=True)
class CacheControl:
    """The directives of a request that a cache of computed results can follow."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age: float | None = None
    """Age in s up to which a stored response may be used; None for any age."""

    @property
    def refreshes(self) -> bool:
        """Whether no stored response may be used, nor one that is being made."""
        return self.no_cache or self.no_store

    def allows(self, age: float) -> bool:
        """Return whether a stored response of this age, in s, may be used; for `max-age=0`, a reload, none may."""
        return not self.refreshes and (self.max_age is None or age <= self.max_age != 0)


def cache_control(headers: Headers) -> CacheControl:
    """Read the directives of a request. `Pragma: no-cache` counts where there is no `Cache-Control`."""
    if not has_any(headers, _NAMES):
        return _ANY
    lines = values(headers, "cache-control") or [
        line for line in values(headers, "pragma") if "no-cache" in map(str.strip, line.casefold().split(","))
    ]
    directives: dict[str, str] = {}
    for directive in ",".join(lines).split(","):
        name, _, argument = directive.partition("=")
        directives.setdefault(name.strip().casefold(), argument.strip().strip('"'))
    age = directives.get("max-age", "")
    return CacheControl(
        no_cache="no-cache" in directives,
        no_store="no-store" in directives,
        only_if_cached="only-if-cached" in directives,
        max_age=float(age[:_DIGITS]) if age.isdecimal() and age.isascii() else None,
    )


_NAMES = frozenset({"cache-control", "pragma"})
_ANY = CacheControl()
_DIGITS = 20
"""Digits of an age that are read; more are for ever."""
