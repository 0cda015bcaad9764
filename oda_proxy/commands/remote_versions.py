"""Commands on the versions of recordings of a running proxy: `history`, `rm KEY@DATE` and `rm --all-versions`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.commands.history import find_earlier, history_lines, print_removed
from oda_proxy.commands.output import print_json, print_lines, warn
from oda_proxy.commands.recordings import AT
from oda_proxy.commands.remote_recordings import read_entry_of, use_proxy
from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oda_proxy.commands.proxy_api import ProxyApi, Server
    from oda_proxy.store.base import Entry

_RECORDINGS: Final = "/-/api/recordings"
_KEY: Final = re.compile("[0-9a-fA-F]{1,64}")


def history(server: Server, key: str, *, as_json: bool) -> int:
    """Print the versions of a recording of a proxy: since when. What changed is compared on its own machine."""

    async def get(api: ProxyApi) -> tuple[Any, list[str]]:
        members, versions = await _versions(api, key)
        return members, list(history_lines(versions, [None] * len(versions)))

    members, lines = use_proxy(server, get)
    if as_json:
        print_json(members)
        return 0
    print_lines(lines)
    if len(members["versions"]) > 1:
        warn("what changed between them is compared on the machine of the server: oda-proxy history, without --server")
    return 0


def remove_versions(server: Server, names: Sequence[str], *, all_versions: bool, dry_run: bool, as_json: bool) -> int:
    """Remove versions of recordings of a proxy, as `history.remove_versions` does on this machine."""

    async def remove(api: ProxyApi) -> list[Entry]:
        chosen: list[tuple[Entry, str]] = []
        for name in names:
            beginning, _, date = name.partition(AT)
            _, versions = await _versions(api, beginning)
            found = versions if all_versions else [find_earlier(versions, beginning, date)]
            chosen += [(one, date or "all") for one in found]
        if dry_run:
            return [one for one, _ in chosen]
        for key, at in dict.fromkeys((one.key, at) for one, at in chosen if one.valid_until is not None):
            await api.send("DELETE", f"{_RECORDINGS}/{key}/versions", query={"at": at})
        for key in dict.fromkeys(one.key for one, _ in chosen if one.valid_until is None):
            await api.send("DELETE", f"{_RECORDINGS}/{key}")
        return [one for one, _ in chosen]

    return print_removed(use_proxy(server, remove), dry_run=dry_run, as_json=as_json)


async def _versions(api: ProxyApi, key: str) -> tuple[Any, list[Entry]]:
    """Return the versions of a recording, as JSON and as metadata. Raises UsageError and ProxyError."""
    if not _KEY.fullmatch(key):
        raise UsageError(f"{key!r:.80} is not the key of a recording; see oda-proxy ls")
    members = await api.send("GET", f"{_RECORDINGS}/{key.casefold()}/versions")
    versions = [read_entry_of(one) for one in members["versions"]]
    if not versions:
        raise ValueError(key)
    return members, versions
