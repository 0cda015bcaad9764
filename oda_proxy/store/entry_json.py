"""The metadata of a recording as JSON, as commands and the HTTP API show it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oda_proxy.store.base import Entry


def entry_json(entry: Entry) -> dict[str, Any]:
    """Return an entry as JSON; times are in s since 1970 (UTC), sizes in bytes, the cost in s."""
    members = asdict(entry)
    members["occupies"], members["place"] = members.pop("stored_size"), members.pop("head_name")
    members["query"] = query = members.pop("query")
    if query is not None:
        query["parameters"] = {name: list(values) for name, values in query["parameters"]}
        query["files"] = dict(query["files"])
    return members
