"""The policy for browsers: which sites may read answers (the CORS protocol of the Fetch standard)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from oda_proxy.http.answer import Answer
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.headers import values
from oda_proxy.http.storable import is_cors_header

if TYPE_CHECKING:
    from oda_proxy.http.message import Headers, Request

ANY_ORIGIN: Final = "*"
NO_CONTENT: Final = 204

_METHODS: Final = "GET, HEAD, POST, OPTIONS"
_EXPOSED_HEADERS: Final = (
    "Age, Cache-Status, Content-Disposition, Content-Location, ETag, Link, Memento-Datetime, Retry-After, Via"
)
_MAX_AGE: Final = "3600"
"""Seconds for which a browser may cache the answer to a preflight request."""


@dataclass(frozen=True, slots=True)
class CorsPolicy:
    """The origins whose scripts may read answers; `ANY_ORIGIN` allows all.

    Without origins, forwarded answers keep the headers of the dispatcher, which are for the request that was forwarded,
    and stored answers have none. With origins, all answers have the headers of this policy in place of the
    dispatcher's: hits, misses and failures do not differ.
    """

    origins: frozenset[str] = frozenset()

    def preflight_answer(self, request: Request) -> Answer | None:
        """Return the answer to a preflight request; None for any other request, and without origins."""
        if not self.origins or request.method != "OPTIONS":
            return None
        if not values(request.headers, "access-control-request-method"):
            return None
        allowed = self._allow_origin(request.headers)
        if allowed:
            allowed += (("Access-Control-Allow-Methods", _METHODS), ("Access-Control-Max-Age", _MAX_AGE))
            names = ", ".join(values(request.headers, "access-control-request-headers"))
            allowed += (("Access-Control-Allow-Headers", names),) if names else ()
        return Answer(NO_CONTENT, (*allowed, *self._vary), (), CacheStatus())

    def apply(self, answer: Answer, request_headers: Headers) -> Answer:
        """Return an answer with the headers of this policy; unchanged without origins."""
        if not self.origins:
            return answer
        others = tuple((name, value) for name, value in answer.headers if not is_cors_header(name))
        allowed = self._allow_origin(request_headers)
        allowed += (("Access-Control-Expose-Headers", _EXPOSED_HEADERS),) if allowed else ()
        return replace(answer, headers=(*others, *allowed, *self._vary))

    @property
    def _vary(self) -> Headers:
        return () if ANY_ORIGIN in self.origins else (("Vary", "Origin"),)

    def _allow_origin(self, request_headers: Headers) -> Headers:
        """Return the header that allows the origin of a request; empty if the policy does not allow it."""
        origin = next(iter(values(request_headers, "origin")), "")
        if ANY_ORIGIN in self.origins:
            origin = ANY_ORIGIN
        return (("Access-Control-Allow-Origin", origin),) if origin in self.origins else ()


def options_answer() -> Answer:
    """Return the answer to OPTIONS without a dispatcher: the methods that the proxy handles."""
    return Answer(NO_CONTENT, (("Allow", _METHODS),), (), CacheStatus())
