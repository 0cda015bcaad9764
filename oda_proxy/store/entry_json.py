"""The metadata of a recording as JSON, as commands and the HTTP API show it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Query
from oda_proxy.store.base import Entry

if TYPE_CHECKING:
    from collections.abc import Mapping


def entry_json(entry: Entry) -> dict[str, Any]:
    """Return an entry as JSON; times are in s since 1970 (UTC), sizes in bytes, the cost in s."""
    members = asdict(entry)
    members["occupies"], members["place"] = members.pop("stored_size"), members.pop("head_name")
    members["query"] = query = members.pop("query")
    if query is not None:
        query["parameters"] = {name: list(values) for name, values in query["parameters"]}
        query["files"] = dict(query["files"])
    return members


def read_entry(members: Mapping[str, Any]) -> Entry:
    """Return the entry of which `entry_json` has made JSON; members that are not known are left out.

    Raises KeyError, TypeError, ValueError or AttributeError where the members are not those of an entry.
    """
    query = members["query"]
    if query is not None:
        query = {**query, "parameters": query["parameters"].items(), "files": query["files"].items()}
    return Entry(
        key=Key(str(members["key"])),
        stored_at=float(members["stored_at"]),
        used_at=float(members["used_at"]),
        size=int(members["size"]),
        stored_size=int(members["occupies"]),
        head_name=str(members["place"]),
        cost=float(members["cost"]),
        private=bool(members["private"]),
        pinned=bool(members["pinned"]),
        query=None if query is None else Query.from_dict(query),
        first_stored_at=_time(members.get("first_stored_at")),
        valid_until=_time(members.get("valid_until")),
    )


def _time(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
