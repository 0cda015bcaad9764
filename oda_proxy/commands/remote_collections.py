"""The command `collections --server`: the collections of a running proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from oda_proxy.commands.collections import check_names, print_done, print_list, print_one
from oda_proxy.commands.proxy_api import send_one
from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oda_proxy.commands.proxy_api import Server

_COLLECTIONS: Final = "/-/api/collections"


def collections(server: Server, *, action: str, names: Sequence[str], owner: str | None, as_json: bool) -> int:
    """List, show, rename or remove collections of a proxy. Raises UsageError and ProxyError."""
    check_names(action, names)
    if owner and not owner.isalnum():
        raise UsageError("--owner must be the beginning of an owner, as oda-proxy collections lists them")
    suffix = f"?owner={owner}" if owner else ""
    if action == "list":
        return print_list(send_one(server, "GET", _COLLECTIONS)["collections"], as_json=as_json)
    one = f"{_COLLECTIONS}/{names[0]}"
    if action == "show":
        return print_one(send_one(server, "GET", f"{one}{suffix}"), as_json=as_json)
    if action == "rename":
        send_one(server, "POST", f"{one}/rename/{names[1]}{suffix}")
        return print_done("renamed", names, as_json=as_json)
    send_one(server, "DELETE", f"{one}{suffix}")
    return print_done("removed", names, as_json=as_json)
