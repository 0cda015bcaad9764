"""Requests for descriptions of instruments and products."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from oda_proxy.errors import NoRecordingError
from oda_proxy.handlers.mementos import as_memento
from oda_proxy.http.cache_control import cache_control
from oda_proxy.http.routes import Kind
from oda_proxy.query import analysis_request
from oda_proxy.query.query import parse_fields

if TYPE_CHECKING:
    from oda_proxy.compat.pipeline import RepairPipeline
    from oda_proxy.http.answer import Answer
    from oda_proxy.http.cache_status import Forwarded
    from oda_proxy.http.message import Request
    from oda_proxy.http.routes import Route
    from oda_proxy.upstream.description_cache import DescriptionCache
    from oda_proxy.upstream.relay import Relay

DESCRIPTION_TIMEOUT = 110.0
"""Seconds that a dispatcher has for a description: clients give up after 120 s. Cached ones are served earlier."""


class DescriptionHandler:
    """Answers requests for descriptions from a cache, or from the dispatcher."""

    def __init__(self, relay: Relay, pipeline: RepairPipeline, cache: DescriptionCache) -> None:
        self._relay = relay
        self._pipeline = pipeline
        self._cache = cache

    async def answer(self, request: Request, route: Route, base_url: str) -> Answer:
        """Return a description from the cache, or relay the request; `base_url` is the proxy's, for the client.

        The answer to HEAD is that to GET: whoever sends it to the client leaves its body out.
        """
        send = self._relay.send_instrument_list if route.kind is Kind.INSTRUMENTS else self._relay.send
        if (as_of := request.scope.as_of) is not None:
            if past := await self._cache.get_as_of(_public_name_of(request, route), as_of):
                return as_memento(past.answer, request, base_url, past.times, past.number)
            if request.scope.only:
                what = "".join(f", {field}" for field in _public_name_of(request, route)[1:])[:100]
                raise NoRecordingError(f"as of {as_of.text}: no description is recorded ({route.path}{what})")
        outgoing = replace(analysis_request.uncompressed(request), method="GET", timeout=DESCRIPTION_TIMEOUT)
        if has_token(request):
            return await self._pipeline.without_configuration(await send(outgoing, base_url, "bypass", detail="token"))

        async def describe(forwarded: Forwarded) -> Answer:
            return await self._pipeline.without_configuration(await send(outgoing, base_url, forwarded))

        return await self._cache.get(
            _name_of(request, route),
            describe,
            request_headers=request.headers,
            control=cache_control(request.headers),
        )

    def cached_file(self, request: Request, route: Route) -> tuple[str, float, bytes] | None:
        """Return the file of the cached description that a request is for, as `DescriptionCache.cached_file`."""
        return self._cache.cached_file(_name_of(request, route))

    async def past_file(self, request: Request, route: Route) -> tuple[str, float, bytes] | None:
        """Return the file of the description that answers a request for a past time; None where none does."""
        if (as_of := request.scope.as_of) is None:
            return None
        return await self._cache.past_file(_public_name_of(request, route), as_of)


def has_token(request: Request) -> bool:
    """Return whether the answer to a request may be for its client alone."""
    names = (name for name, _ in parse_fields(request.query_string))
    return analysis_request.has_credentials(request) or "token" in names


def _name_of(request: Request, route: Route) -> tuple[str, ...]:
    """Return the name of a description in the cache."""
    return (route.path, *(f"{name}={value}" for name, value in sorted(parse_fields(request.query_string))))


def _public_name_of(request: Request, route: Route) -> tuple[str, ...]:
    """Return the name of the description that everyone receives: past ones are the same for all."""
    pairs = sorted(parse_fields(request.query_string))
    return (route.path, *(f"{name}={value}" for name, value in pairs if name != "token"))
