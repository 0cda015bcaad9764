"""Looking inside a store on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oda_proxy.store.index import Index

if TYPE_CHECKING:
    from oda_proxy.store.disk import DiskStore


def index_of(store: DiskStore) -> Index:
    """Return the index of a store that can be written to."""
    index = store._folder.index()
    assert isinstance(index, Index)
    return index
