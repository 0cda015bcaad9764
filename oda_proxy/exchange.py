"""A plain HTTP exchange of a run, kept without what belongs to its asker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from oda_proxy.errors import OdaProxyError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from oda_proxy.answer import Answer
    from oda_proxy.cache_status import CacheStatus
    from oda_proxy.upstream.base import Headers

MAX_BODY = 16 * 1024 * 1024
"""Bytes of a body that is kept."""


class ExchangeError(OdaProxyError):
    """What is read is no exchange that could have been kept."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A GET and what was answered: `asked` are those headers of the request by which the answer varies."""

    url: str
    asked: Headers
    status: int
    headers: Headers
    body: bytes = field(repr=False)
    when: float
    """When it was answered, in s since 1970 (UTC)."""

    @property
    def name(self) -> str:
        """Give what it is filed under: the same for whoever asks the same."""
        raise NotImplementedError

    def is_for(self, method: str, url: str, headers: Headers) -> bool:
        """Tell whether it answers a request; a HEAD is answered by the headers of a GET."""
        raise NotImplementedError

    def answer(self, cache_status: CacheStatus) -> Answer:
        """Give what a program is told."""
        raise NotImplementedError


def refuse_request(method: str, url: str, headers: Headers) -> None:
    """Raise NotKeptError where the answer to a request, whatever it is, must not be kept."""
    raise NotImplementedError


def onward_headers(headers: Headers) -> Headers:
    """Give the headers with which to ask for what is to be kept: an answer that is compressed only for one client..."""
    raise NotImplementedError


def kept(  # noqa: D103
    url: str, asked: Headers, status: int, headers: Headers, pieces: Iterable[bytes], *, when: float
) -> Exchange:
    raise NotImplementedError


def to_json(exchange: Exchange) -> bytes:  # noqa: D103
    raise NotImplementedError


def from_json(text: bytes, body: bytes, *, max_body: int = MAX_BODY) -> Exchange:  # noqa: D103
    raise NotImplementedError
