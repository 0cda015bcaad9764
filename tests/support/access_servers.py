"""A server with a token of each kind, its visitors, and a public and a private recording."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import jwt

from oda_proxy.access.authentication import Authentication, Readers, Secret, Tokens
from oda_proxy.access.hosts import HostPolicy
from oda_proxy.config.options import SERVE
from oda_proxy.config.settings import ServeOptions
from oda_proxy.config.sources import resolve_options
from oda_proxy.handlers.policy import Policy
from oda_proxy.proxy import Proxy
from oda_proxy.servers.one_process import proxy_app
from oda_proxy.store.memory import MemoryStore
from oda_proxy.web import history_api, import_api, recording_api
from oda_proxy.web.app import make_app
from oda_proxy.web.own_routes import OWN_ROUTES, Guard, OwnRoute
from oda_proxy.web.server import listening
from tests.support.image_query import IMAGE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from yarl import URL

    from oda_proxy.http.message import Upstream
    from oda_proxy.store.base import Store
    from oda_proxy.store.collections import Collections

KEY: Final = "a key of more than thirty-two bytes"
ADMIN, READ, METRICS = "the administration token", "the reading token", "the metrics token"


def person(name: str, *, expires: float = 3600.0) -> str:
    """Return the token of a person, which the dispatcher accepts."""
    claims = {"sub": f"{name}@example.org", "roles": "general", "exp": time.time() + expires}
    return jwt.encode(claims, KEY, "HS256")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def write_tokens(folder: Path) -> dict[str, str]:
    """Write a file for each token of the server, and return the options that name them."""
    options = {}
    for name, token in (("admin", ADMIN), ("read", READ), ("metrics", METRICS)):
        file = folder / f"{name}.token"
        file.touch(0o600)
        file.write_text(f"{token}\n")
        options[f"{name}-token-file"] = str(file)
    return options


def name_of(route: OwnRoute) -> str:
    """Return the name of a route in documents: its variables without their patterns, in capitals."""
    path = re.sub(r"\{(\w+)(?:\{[^}]*\}|:(?:[^{}]|\{[^}]*\})*)?\}", lambda found: found[1].upper(), route.path)
    return f"{route.method} {path}{' (html)' if route.is_html else ''}"


@dataclass(frozen=True)
class AccessServer:
    """A server, and a client of it; person A has the private recording."""

    url: str
    client: aiohttp.ClientSession
    routes: tuple[OwnRoute, ...]
    store: Store
    public: str
    private: str
    collections: Collections | None = None

    async def send(self, method: str, path: str | URL, headers: Mapping[str, str], **more: Any) -> tuple[int, str]:
        """Send a request for a path, or a whole URL, and return the status and the text of the response."""
        url = self.url + path if isinstance(path, str) else path
        async with self.client.request(method, url, headers=headers, allow_redirects=False, **more) as response:
            return response.status, await response.text("latin-1")

    async def image(self, **changes: str) -> int:
        """Send the query of the image until it ends, as clients do, and return the status."""
        fields = {**IMAGE, **changes}
        while True:
            async with self.client.get(f"{self.url}/run_analysis", params=fields) as response:
                answer = await response.json()
            if answer["query_status"] in {"done", "failed"}:
                return response.status
            fields |= {"query_status": answer["query_status"], "job_id": answer["job_monitor"]["job_id"]}
            await asyncio.sleep(0.01)  # as clients do


@asynccontextmanager
async def access_server(folder: Path, **options: str) -> AsyncIterator[AccessServer]:
    """Run a server with a mock dispatcher, which has recorded a public query, and one of person A."""
    flags = {
        "mock": "yes",
        "time-scale": "0",
        "secret-key": KEY,
        "readers": "verified",
        **write_tokens(folder),
        **{name.replace("_", "-"): value for name, value in options.items()},
    }
    (folder / "empty.toml").touch()
    values = resolve_options(SERVE, flags, {}, folder / "empty.toml", warn=print)
    serve_options = ServeOptions(**{name.replace("-", "_"): value for name, value in values.items()})
    async with AsyncExitStack() as stack:
        app, parts = await proxy_app(serve_options, stack, shutdown_timeout=0.1)
        url = await stack.enter_async_context(listening(app, "127.0.0.1", 0, shutdown_timeout=0.1))
        client = await stack.enter_async_context(aiohttp.ClientSession())
        server = AccessServer(url, client, app[OWN_ROUTES], parts.store, "", "")
        assert await server.image() == 200
        assert await server.image(token=person("a")) == 200
        keys = {entry.private: str(entry.key) for entry in parts.store.entries()}
        index = parts.proxy.collections.index
        yield AccessServer(url, client, app[OWN_ROUTES], parts.store, keys[False], keys[True], index)


@asynccontextmanager
async def api_server(upstream: Upstream | None = None) -> AsyncIterator[AccessServer]:
    """Run a server with the HTTP API, a token for administrators and one for readers, and an empty store."""
    proxy = Proxy(MemoryStore(), upstream, Policy())
    tokens = Tokens(admin=Secret(ADMIN), read=Secret(READ))
    app = make_app(
        proxy,
        guard=Guard(Authentication(tokens, readers=Readers.TOKEN), HostPolicy()),
        routes=(
            *recording_api.routes(proxy),
            *history_api.routes(proxy),
            *import_api.routes(proxy.store, proxy.instruments, ["https://dispatcher.example/mmoda/dispatch-data"]),
        ),
    )
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(listening(app, "127.0.0.1", 0, shutdown_timeout=0.1))
        client = await stack.enter_async_context(aiohttp.ClientSession())
        stack.push_async_callback(proxy.close)
        yield AccessServer(url, client, app[OWN_ROUTES], proxy.store, "", "")
