"""Datetime negotiation as in Memento (RFC 7089): its headers, and lists of versions.

The address of a query is its own TimeGate, and versions have addresses of their own, `/as-of/<time>/...`: section
4.1.2, URI-R=URI-G, 200-style negotiation, distinct URI-M for Mementos.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Final

from oda_proxy.http.headers import has_any, values
from oda_proxy.http.scope import AS_OF, ONLY, AsOf, ScopeError, time_texts

if TYPE_CHECKING:
    from oda_proxy.http.message import Headers

MEDIA_TYPE: Final = "application/link-format"
"""The form of a TimeMap (RFC 6690, section 7.3)."""

_HEADER: Final = "accept-datetime"
_NAMES: Final = frozenset({_HEADER})
_FORMAT: Final = "%a, %d %b %Y %H:%M:%S GMT"
_MAX_LENGTH: Final = 40
_UNSAFE: Final = re.compile(r"[^\x21-\x7e]|[<>\"]")


def accept_datetime(headers: Headers) -> AsOf | None:
    """Return the time that a request prefers; None where it names none.

    Raises ScopeError for a header that is no date of RFC 1123 (RFC 7089, section 4.5.3: the answer is 400).
    """
    if not has_any(headers, _NAMES):
        return None
    text = ", ".join(values(headers, _HEADER)).strip()
    try:
        begin = datetime.strptime(text[:_MAX_LENGTH], _FORMAT).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise ScopeError(
            f"Accept-Datetime: {text[:_MAX_LENGTH]!a} is not a date: write one such as Thu, 31 May 2007 20:35:00 GMT"
        ) from None
    return AsOf.of_second(begin, text, is_negotiated=True)


def http_date(time: float) -> str:
    """Return a time, in s since 1970 (UTC), as a header has it."""
    return format_datetime(datetime.fromtimestamp(math.floor(time), UTC), usegmt=True)


@dataclass(frozen=True, slots=True)
class TimeLine:
    """The versions of one answer.

    `base_url` is the address of the proxy without `/as-of/`, `target` the path and the query of the request, without
    what names the client, and `timemap` the address of the list of versions, empty where there is none. `times` are
    those since which each version is the answer, in s since 1970 (UTC), in order.
    """

    base_url: str
    target: str
    timemap: str
    times: tuple[float, ...]

    def headers(self, number: int, *, is_negotiated: bool) -> Headers:
        """Return the headers of a version; `is_negotiated` if it was chosen by `Accept-Datetime`."""
        described = (("Memento-Datetime", http_date(self.times[number])), ("Link", ", ".join(self._links(number))))
        if not is_negotiated:
            return described
        return (*described, ("Content-Location", self._address(number)))

    def document(self) -> str:
        """Return the list of all versions, a TimeMap (RFC 7089, section 5)."""
        own = f'<{_safe(self.timemap)}>;rel="self";type="{MEDIA_TYPE}"'
        if self.times:
            own += f';from="{http_date(self.times[0])}";until="{http_date(self.times[-1])}"'
        mementos = [self._memento(number) for number in range(len(self.times))]
        return ",\n".join([f'<{self._original}>;rel="original timegate"', own, *mementos]) + "\n"

    @property
    def _original(self) -> str:
        return _safe(f"{self.base_url}{self.target}")

    def _links(self, number: int) -> list[str]:
        last = len(self.times) - 1
        others = sorted({0, number - 1, number, number + 1, last} & set(range(last + 1)))
        period = f'from="{http_date(self.times[0])}"; until="{http_date(self.times[-1])}"'
        timemap = f'<{_safe(self.timemap)}>; rel="timemap"; type="{MEDIA_TYPE}"; {period}'
        return [
            f'<{self._original}>; rel="original timegate"',
            *([timemap] if self.timemap else []),
            *(self._memento(one, of=number) for one in others),
        ]

    def _memento(self, number: int, of: int | None = None) -> str:
        last = len(self.times) - 1
        relations = [
            *(["first"] if number == 0 else []),
            *(["prev"] if of is not None and number == of - 1 else []),
            *(["next"] if of is not None and number == of + 1 else []),
            *(["last"] if number == last else []),
            "memento",
        ]
        return f'<{self._address(number)}>; rel="{" ".join(relations)}"; datetime="{http_date(self.times[number])}"'

    def _address(self, number: int) -> str:
        near = self.times[max(number - 1, 0) : number + 2]  # a second may have several versions
        moment = time_texts(near, is_compact=True)[min(number, 1)]
        return _safe(f"{self.base_url}/{AS_OF}/{moment}{self.target}")


def without_date(prefix: str, as_of: AsOf) -> str:
    """Return a prefix of a path without the part that names a date."""
    for part in (f"/{AS_OF}/{as_of.text}/{ONLY}", f"/{AS_OF}/{as_of.text}"):
        if part in prefix and prefix.partition(part)[2][:1] in {"", "/"}:
            return prefix.replace(part, "", 1)
    return prefix


def _safe(address: str) -> str:
    """Return an address that ends neither its link nor its header."""
    return _UNSAFE.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "replace")), address)
