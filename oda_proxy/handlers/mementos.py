"""The headers of an answer that is a version of its resource, for the client that receives it (RFC 7089)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from oda_proxy.http import headers
from oda_proxy.http.memento import TimeLine, without_date
from oda_proxy.query.query import ENVELOPE, parse_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Request

ANALYSIS: Final = "/run_analysis"
TIMEMAP: Final = "/-/timemap/"
"""Where the list of the versions of a key is."""

_MAX_TARGET: Final = 4096
"""Characters of a query up to which links repeat it."""


def as_memento(
    answer: Answer, request: Request, base_url: str, times: tuple[float, ...], number: int, *, key: str = ""
) -> Answer:
    """Return an answer with the headers that say which version it is.

    `times` are those since which each version is the answer, in s since 1970 (UTC), in order, and `number` is that of
    the one in the answer, from 0. The versions of a `key` have a TimeMap.
    """
    as_of = request.scope.as_of
    if as_of is None:
        return answer
    origin = base_url.removesuffix(request.prefix)
    timemap = f"{origin}{TIMEMAP}{key}" if key else ""
    line = TimeLine(origin + without_date(request.prefix, as_of), _target(request), timemap, times)
    fields = line.headers(number, is_negotiated=as_of.is_negotiated)
    return replace(answer, headers=(*answer.headers, *fields))


def varying(answer: Answer) -> Answer:
    """Return an answer that says that it would be another one for a client that prefers a past time."""
    names = [name.strip() for value in headers.values(answer.headers, "vary") for name in value.split(",")]
    if _NAME in map(str.casefold, names):
        return answer
    others = tuple(pair for pair in answer.headers if pair[0].casefold() != "vary")
    return replace(answer, headers=(*others, ("Vary", ", ".join((*names, _NAME)))))


def fixed(answer: Answer) -> Answer:
    """Return an answer of an address that names a time: it is the same whatever time its client prefers."""
    fields: list[tuple[str, str]] = []
    for name, value in answer.headers:
        if name.casefold() != "vary":
            fields.append((name, value))
        elif names := ", ".join(one for one in value.split(", ") if one.casefold() != _NAME):
            fields.append((name, names))
    return replace(answer, headers=tuple(fields))


_NAME: Final = "accept-datetime"


def analysis_target(fields: Sequence[tuple[str, str]]) -> str:
    """Return the path of a query with these fields, as a link that can be followed: one that names no client."""
    return f"{ANALYSIS}?{urlencode([*fields, ('query_status', 'new')], errors='surrogateescape')}"


def _target(request: Request) -> str:
    """Return the path of a request, with its fields but for those that name the client."""
    form = request.body if isinstance(request.body, bytes) and len(request.body) <= _MAX_TARGET else b""
    fields = [(name, value) for name, value in parse_fields(request.query_string, form) if name not in ENVELOPE]
    if request.path == ANALYSIS:
        target = analysis_target(fields)
    else:
        target = f"{request.path}?{urlencode(fields, errors='surrogateescape')}".removesuffix("?")
    return target if len(target) <= _MAX_TARGET else request.path
