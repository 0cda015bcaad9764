"""Copies collections from one store to another, after their recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oda_proxy.store.collections import ADDRESS, CLIENT, RECORDING

if TYPE_CHECKING:
    from oda_proxy.store.base import Store
    from oda_proxy.store.collections import Collection, Collections, Member


def copy_collections(stored: Collections, copies: Collections, store: Store) -> int:
    """Copy all collections to the target, whose recordings are in `store`; return their number.

    One that the target has, too, is merged with it. Raises StoreUnusableError.
    """
    found = stored.list()
    for collection in found:
        members = [(one, _size(one, store)) for one in stored.members(collection)]
        facts = [(kind, value) for kind in (ADDRESS, CLIENT) for value in stored.facts(collection, kind)]
        copies.merge(collection, members, facts)
        _copy_descriptions(stored, copies, collection)
    return len(found)


def _copy_descriptions(stored: Collections, copies: Collections, collection: Collection) -> None:
    """Copy the descriptions that the target has not: it may have later ones."""
    present = {file for file, _ in copies.descriptions(collection)}
    for file, content in stored.descriptions(collection):
        if file not in present:
            copies.note_description(collection.name, file, collection.created, content)


def _size(member: Member, store: Store) -> int:
    """Return the bytes of a recording in the target, as stored."""
    entry = store.entry(member.key) if member.kind == RECORDING else None
    return 0 if entry is None else entry.stored_size
