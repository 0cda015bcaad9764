"""One server for several upstreams: each has an application of its own below its prefix.

An application sees the requests for its upstream without the prefix, as if it were alone.
"""

from __future__ import annotations

import re
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from aiohttp import web

from oda_proxy.compat.failure_answers import failure_answer
from oda_proxy.http.scope import ScopeError, scope_length
from oda_proxy.query.query import Envelope
from oda_proxy.web.messages import MAX_FORM, send
from oda_proxy.web.server import DIRECT_HANDLER, UNEXPECTED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping

    from aiohttp.typedefs import Handler

    from oda_proxy.http.front_end_headers import FrontEndHeadersError
    from oda_proxy.web.front_end import Addresses
    from oda_proxy.web.server import DirectHandler


@dataclass(frozen=True, slots=True)
class MountedAddresses:
    """The addresses of an application below a prefix; `server` has those of the whole server."""

    server: Addresses
    mount: str
    """The prefix, which begins with a slash; empty for the root."""

    def public_url(self, incoming: web.BaseRequest) -> str:
        """Return the URL of the application for the client."""
        return self.server.public_url(incoming) + self.mount

    def client_address(self, incoming: web.BaseRequest) -> str:
        """Return the address of the client, as `Addresses.client_address` does."""
        return self.server.client_address(incoming)

    def is_remote(self, incoming: web.BaseRequest) -> bool:
        """Return whether the client is on another machine."""
        return self.server.is_remote(incoming)

    def target(self, incoming: web.BaseRequest) -> str:
        """Return the path of a request, without the prefixes of the deployment and of the application."""
        path = self.server.target(incoming)
        return path if not self.mount else without_prefix(path, self.mount) or path  # a page has none any more

    def error(self, incoming: web.BaseRequest) -> FrontEndHeadersError | None:
        """Return why the headers of front ends cannot be read, or None."""
        return self.server.error(incoming)

    def request_id(self, incoming: web.BaseRequest) -> str | None:
        """Return the id that a front end has given a request, as `Addresses.request_id` does."""
        return self.server.request_id(incoming)


def without_prefix(path: str, prefix: str) -> str | None:
    """Return an encoded path, with its query string, without a prefix; None for one that is elsewhere.

    The prefix is compared as other servers do: segments decoded, and without those that are empty.
    """
    if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in {"/", "?", ""}:
        return _absolute(path[len(prefix) :])
    rest = path
    for segment in prefix.split("/")[1:]:
        found = _FIRST_SEGMENT.match(rest)
        if found is None or unquote(found[1]) != segment:
            return None
        rest = rest[found.end() :]
    return _absolute(rest)


_FIRST_SEGMENT = re.compile(r"/+([^/?#]+)")


def _absolute(rest: str) -> str:
    """Return what follows a prefix as a path; two slashes at its beginning would name another server."""
    return f"/{rest.lstrip('/')}"


@asynccontextmanager
async def mounted(
    applications: Mapping[str, web.Application], elsewhere: web.Application, addresses: Addresses
) -> AsyncIterator[web.Application]:
    """Return an application that passes each request to that of its prefix, or to `elsewhere`.

    `applications` are started, and stopped at the end of the block. `addresses` are those of the whole server.
    """
    async with AsyncExitStack() as stack:
        started = {"": elsewhere, **applications}
        handlers = {prefix: await _started(app, stack) for prefix, app in started.items()}
        root = handlers.pop("")

        def handler_of(incoming: web.BaseRequest) -> Handler:
            if addresses.error(incoming) is None:
                path = addresses.target(incoming)
                for prefix, handler in handlers.items():
                    if without_prefix(path, prefix) is not None:
                        return handler
                if meant := _with_prefix_first(path, handlers):
                    return partial(_refuse, meant=meant)
            return root

        async def handle(incoming: web.Request) -> web.StreamResponse:
            return await handler_of(incoming)(incoming)

        def directly(_: Handler, incoming: web.Request) -> Awaitable[web.StreamResponse]:
            return handler_of(incoming)(incoming)

        async def shut_down(_: web.Application) -> None:
            for app in started.values():
                await app.shutdown()

        server = web.Application(client_max_size=MAX_FORM)
        server.router.add_route("*", "/{path:.*}", handle)
        direct_handler: DirectHandler = directly
        server[DIRECT_HANDLER] = direct_handler
        server.on_shutdown.append(shut_down)
        yield server


def _with_prefix_first(path: str, prefixes: Iterable[str]) -> str:
    """Return the prefix that an address means which has that of an upstream after a date or a collection; "" for none.

    The upstream at the root would answer it instead of the one that is named.
    """
    segments = [unquote(segment) for segment in path.partition("?")[0].split("/") if segment]
    if not (length := scope_length(segments)):
        return ""
    rest = f"/{'/'.join(segments[length:])}"
    found = (prefix for prefix in prefixes if without_prefix(rest, prefix) is not None)
    return "".join(f"{prefix}/{'/'.join(segments[:length])}" for prefix in islice(found, 1))


async def _refuse(incoming: web.BaseRequest, meant: str) -> web.StreamResponse:
    """Answer as a failed job, which clients show."""
    error = ScopeError(f"the prefix of an upstream comes first: write {ascii(meant[:_MAX_SHOWN])[1:-1]}")
    return await send(failure_answer(error, Envelope()), incoming)


_MAX_SHOWN: Final = 200
"""Characters of an address that a message repeats."""


async def _started(app: web.Application, stack: AsyncExitStack) -> Handler:
    """Start an application without a listener of its own, and return its handler of requests."""
    runner = web.AppRunner(app, access_log=None, logger=UNEXPECTED)
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    assert runner.server is not None  # noqa: S101 - for the type checker
    handler: Handler = runner.server.request_handler
    return partial(app[DIRECT_HANDLER], handler) if DIRECT_HANDLER in app else handler
