"""Commands on the recordings of a running proxy: `ls`, `show`, `rm`, `pin`, `unpin`, `refresh` with `--server`."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

from oda_proxy.commands.output import print_flushed, print_json, print_json_list, print_lines, warn
from oda_proxy.commands.proxy_api import ProxyError, connected
from oda_proxy.commands.recordings import print_dry_run, print_keys, recording_table
from oda_proxy.commands.show import metadata_lines
from oda_proxy.errors import UsageError
from oda_proxy.http.scope import parse_name
from oda_proxy.query.cache_key import short_key
from oda_proxy.store.entry_json import read_entry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from oda_proxy.commands.proxy_api import ProxyApi, Server
    from oda_proxy.store.base import Entry
    from oda_proxy.store.selection import Filters

T = TypeVar("T")

_KEY: Final = re.compile("[0-9a-fA-F]{1,64}")
_WHOLE_KEY: Final = re.compile("[0-9a-f]{64}")

_RECORDINGS: Final = "/-/api/recordings"
_PAGE: Final = "500"
"""Recordings that are listed with one request."""


def ls(server: Server, *, filters: Filters, as_json: bool) -> int:
    """List recordings of a proxy, the one used last first."""
    entries = use_proxy(server, lambda api: _selected(api, filters))
    if as_json:
        print_json_list(members for members, _ in entries)
    elif entries:
        print_flushed(recording_table(entry for _, entry in entries))
    else:
        _warn_of_no_recording(server, filters)
    return 0


def show(server: Server, key: str, *, as_json: bool) -> int:
    """Print the query of a recording of a proxy, and where its products can be seen."""

    async def get(api: ProxyApi) -> tuple[Any, Entry]:
        return await _one(api, key)

    members, entry = use_proxy(server, get)
    if as_json:
        print_json(members)
    else:
        print_lines([*metadata_lines(entry), "", f"products: {server.url}/-/recordings/{entry.key}"])
    return 0


def rm(
    server: Server, keys: Sequence[str], *, filters: Filters, is_confirmed: bool, dry_run: bool, as_json: bool
) -> int:
    """Remove recordings of a proxy: all that are named, or none if a key is unknown.

    Recordings that filters select are listed only, unless `is_confirmed`.
    """

    async def remove(api: ProxyApi) -> int:
        entries = await _chosen(api, keys, filters)
        if dry_run or (filters and not is_confirmed):
            return print_dry_run(entries, "removed", "rm with --yes removes them", as_json=as_json)
        if filters:
            answer = await api.send("DELETE", _RECORDINGS, query={**filters.texts(), "confirm": "yes"})
            return print_keys("removed", [_key(one) for one in answer["removed"]], as_json=as_json)
        removed = [await _remove(api, entry) for entry in entries]
        return print_keys("removed", removed, as_json=as_json)

    return use_proxy(server, remove)


def pin(server: Server, keys: Sequence[str], *, filters: Filters, dry_run: bool, pinned: bool, as_json: bool) -> int:
    """Exempt recordings of a proxy from eviction, or end the exemption."""
    name, action = ("pinned", "pin") if pinned else ("unpinned", "unpin")

    async def change(api: ProxyApi) -> int:
        entries = await _chosen(api, keys, filters)
        if dry_run:
            return print_dry_run(entries, name, "without --dry-run, they are", as_json=as_json)
        done, collections = list[str](), set[str]()
        for entry in entries:
            answer = await api.send("POST", f"{_RECORDINGS}/{entry.key}/{action}")
            done += [_key(key) for key in answer[name]]
            collections |= {parse_name(one) for one in answer.get("collections", ())}
        if collections:
            from oda_proxy.commands.collections import warn_of_collections

            warn_of_collections(sorted(collections))
        return print_keys(name, done, as_json=as_json)

    return use_proxy(server, change)


def refresh(server: Server, keys: Sequence[str], *, as_json: bool) -> int:
    """Have recordings of a proxy computed again: all that are named, or none if a key is unknown."""

    async def compute(api: ProxyApi) -> int:
        states = {}
        for _, entry in [await _one(api, key) for key in keys]:
            answer = await api.send("POST", f"{_RECORDINGS}/{entry.key}/refresh")
            states[entry.key] = answer["state"]
        if as_json:
            print_json({"refreshed": states})
        else:
            print_lines(f"{short_key(key)} is {_STATES[state]}" for key, state in states.items())
        return 0

    return use_proxy(server, compute)


_STATES: Final = {"running": "being computed again; oda-proxy jobs shows its state", "done": "computed again"}


def use_proxy(server: Server, use: Callable[[ProxyApi], Awaitable[T]]) -> T:
    """Use the client of a proxy. Raises ProxyError, also for responses that are not those of the API."""

    async def run() -> T:
        async with connected(server) as api:
            return await use(api)

    try:
        return asyncio.run(run())
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ProxyError(f"the response of {server.url} is not that of oda-proxy ({type(error).__name__})") from error


async def _selected(api: ProxyApi, filters: Filters) -> list[tuple[Any, Entry]]:
    """Return all recordings that filters select, as JSON and as metadata, each once."""
    found: dict[str, tuple[Any, Entry]] = {}
    query: Any = {**filters.texts(), "limit": _PAGE}
    while query:
        page = await api.send("GET", _RECORDINGS, query=query)
        before = len(found)
        for members in page["recordings"]:
            entry = read_entry_of(members)
            found.setdefault(entry.key, (members, entry))  # one may move from page to page
        query = (page["next"] or "").removeprefix("?") if len(found) > before else ""
    return list(found.values())


async def _chosen(api: ProxyApi, keys: Sequence[str], filters: Filters) -> list[Entry]:
    """Return the recordings with these keys, or else all that filters select. Raises ProxyError and UsageError."""
    if bool(keys) == bool(filters):
        raise UsageError("name keys, or filters such as --instrument, and not both")
    if keys:
        return list({entry.key: entry for _, entry in [await _one(api, key) for key in keys]}.values())
    entries = [entry for _, entry in await _selected(api, filters)]
    if not entries:
        warn(f"no recording of {api.url} meets the filters")
    return entries


async def _one(api: ProxyApi, key: str) -> tuple[Any, Entry]:
    """Return the recording with a key, or its beginning, as JSON and as metadata. Raises UsageError and ProxyError."""
    if not _KEY.fullmatch(key):
        raise UsageError(f"{key!r:.80} is not the key of a recording; see oda-proxy ls")
    members = await api.send("GET", f"{_RECORDINGS}/{key.casefold()}")
    return members, read_entry_of(members)


async def recording_of(api: ProxyApi, key: str) -> Entry:
    """Return the metadata of the recording with a key, or its beginning. Raises UsageError and ProxyError."""
    return (await _one(api, key))[1]


async def _remove(api: ProxyApi, entry: Entry) -> str:
    """Remove one recording, and return its key."""
    (key,) = (await api.send("DELETE", f"{_RECORDINGS}/{entry.key}"))["removed"]
    return _key(key)


def read_entry_of(members: Any) -> Entry:
    """Return the metadata of a recording from JSON. Raises ValueError, or as `read_entry`."""
    entry = read_entry(members)
    _key(entry.key)
    return entry


def _key(text: Any) -> str:
    """Return a key that a server has sent. Raises ValueError for what is none, and might control a terminal."""
    if not isinstance(text, str) or not _WHOLE_KEY.fullmatch(text):
        raise ValueError(text)
    return text


def _warn_of_no_recording(server: Server, filters: Filters) -> None:
    warn(f"no recording of {server.url} meets the filters" if filters else f"{server.url} has no recordings to list")
