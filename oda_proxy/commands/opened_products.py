"""The products that `open` sends to programs, from a store on this machine or from a running proxy."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from oda_proxy.commands.proxy_api import ProxyError, connected

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.commands.proxy_api import Server

Summary: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Products:
    """The products of the recording with a key: their summaries, and the FITS file of one by its number."""

    key: str
    summaries: list[Summary]
    file_of: Callable[[int], bytes]


def remote_products(server: Server, key: str) -> Products:
    """Return the products of a recording of a running proxy, whose files are fetched when they are needed.

    Raises ProxyError, also for responses that are not those of a proxy.
    """
    from oda_proxy.commands.remote_recordings import recording_of

    async def find() -> Products:
        async with connected(server) as api:
            entry = await recording_of(api, key)
            answer = await api.send("GET", f"/-/recordings/{entry.key}/products")
            summaries = [_read_summary(members) for members in answer["products"]]
            return Products(entry.key, summaries, lambda number: asyncio.run(fetch(entry.key, number)))

    async def fetch(whole_key: str, number: int) -> bytes:
        async with connected(server) as api:
            return await api.fetch(f"/-/recordings/{whole_key}/products/{number}.fits")

    try:
        return asyncio.run(find())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProxyError(f"the response of {server.url} is not that of oda-proxy ({type(error).__name__})") from error


def _read_summary(members: Summary) -> Summary:
    """Return the summary of a product; raises KeyError, TypeError or ValueError for what is none."""
    return {**members, "number": int(members["number"]), "file": str(members["file"]), "kind": str(members["kind"])}
