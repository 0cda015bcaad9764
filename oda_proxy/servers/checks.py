"""What has to work when a server starts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from oda_proxy.errors import StoreUnusableError, UpstreamUnreachableError
from oda_proxy.http.message import Request

if TYPE_CHECKING:
    from oda_proxy.http.message import Upstream
    from oda_proxy.proxy import Proxy
    from oda_proxy.servers.parts import Parts
    from oda_proxy.store.base import Store

_log = logging.getLogger(__name__)

START_TIMEOUT = 5.0
"""Seconds that a dispatcher has to answer the first request of all."""


class NoDispatcherError(UpstreamUnreachableError):
    """The dispatcher does not answer at the start, and the store is empty."""

    def __init__(self, error: UpstreamUnreachableError, url: str) -> None:
        super().__init__(
            url, f"{error.reason}; start it first, name another with --upstream, or say --mock or --offline"
        )


async def _check_upstream(upstream: Upstream, store: Store, *, is_only: bool) -> None:
    """Check that the dispatcher answers.

    Raises UpstreamUnreachableError where it does not and the store is empty: the proxy could answer nothing at all. One
    of several dispatchers does not keep the others from being served.
    """
    try:
        reply = await upstream.send(Request("GET", "/api/instr-list", "instrument=mock", timeout=START_TIMEOUT))
        await reply.body.aclose()
    except UpstreamUnreachableError as error:
        try:
            key = next(store.keys(), None)
        except StoreUnusableError:
            key = None
        if key is None and is_only:
            raise NoDispatcherError(error, upstream.url) from error
        until = "it is asked again for each request" if key is None else "answering from recordings"
        _log.warning("%s; %s until it is back", error, until)


async def check_parts(parts: Parts, *, contacts_upstream: bool = True) -> None:
    """Check that the dispatcher answers, and that the store can be used.

    Raises NoDispatcherError and StoreUnusableError where nothing could be answered.
    """
    if contacts_upstream and parts.upstream:
        await _check_upstream(parts.upstream, parts.store, is_only=not parts.options.name)
    _check_store(parts.store, parts.proxy)


def _check_store(store: Store, proxy: Proxy) -> None:
    """Check that the store can be used; raises StoreUnusableError where it cannot, and there is no upstream either."""
    try:
        store.usage()
    except StoreUnusableError as error:
        if proxy.upstream is None:
            raise
        proxy.store_faults.note_failure("read", error)
