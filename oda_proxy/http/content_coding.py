"""The content coding that a client prefers (RFC 9110, section 12.5.3)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from oda_proxy.http import headers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oda_proxy.http.message import Headers

IDENTITY: Final = "identity"
"""The name of no coding."""

MAX_HEADER: Final = 4096
"""Characters of `Accept-Encoding` that are read: a longer one names no more codings than are known."""

_ALIASES: Final = {"x-gzip": "gzip"}
"""Names that mean another one (RFC 9110, section 8.4.1.3)."""

_ITEM: Final = re.compile(
    r"(?P<coding>[!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:[ \t]*;[ \t]*[qQ]=(?P<weight>0(\.[0-9]{0,3})?|1(\.0{0,3})?))?"
)


def preferred(request_headers: Headers, available: Sequence[str]) -> str:
    """Return the coding for a response: one of `available`, where the first of equal weight is preferred, or none.

    Without the header, the response has no coding. Items that cannot be parsed are not accepted. Where the client
    accepts nothing that there is, the response has no coding, either.
    """
    weights = _weights(", ".join(headers.values(request_headers, "accept-encoding"))[:MAX_HEADER])
    of_others = weights.get("*", 0.0)
    best, highest = IDENTITY, weights.get(IDENTITY, 0.0)
    for coding in available:
        weight = weights.get(coding, of_others)
        if weight > highest or (weight == highest > 0 and best == IDENTITY):
            best, highest = coding, weight
    return best


def _weights(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for item in text.split(","):
        if match := _ITEM.fullmatch(item.strip(" \t")):
            coding = match["coding"].lower()
            found[_ALIASES.get(coding, coding)] = float(match["weight"] or "1")
    return found
