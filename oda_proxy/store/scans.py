"""Orders and totals of recordings, computed from the metadata of all of them.

For stores without secondary indexes: in memory, or on a medium that cannot be written to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from oda_proxy.store.base import ProductTotals

if TYPE_CHECKING:
    from collections.abc import Iterable

    from oda_proxy.store.base import Entry
    from oda_proxy.store.selection import Filters


def by_use(entries: Iterable[Entry], filters: Filters | None = None) -> list[Entry]:
    """Return the recordings that meet filters, the one used last first."""
    found = entries if filters is None else filter(filters.matches, entries)
    return sorted(found, key=lambda entry: entry.used_at, reverse=True)


def of_product(entries: Iterable[Entry], instrument: str, product: str) -> list[Entry]:
    """Return the public recordings of a product, the one stored last first."""
    found = (entry for entry in entries if not entry.private and _product(entry) == (instrument, product))
    return sorted(found, key=lambda entry: entry.stored_at, reverse=True)


def totals(entries: Iterable[Entry]) -> list[ProductTotals]:
    """Return the totals of each product."""
    groups: dict[tuple[str | None, str | None, bool], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((*_product(entry), entry.private), []).append(entry)
    return [
        ProductTotals(
            *product,
            recordings=len(group),
            size=sum(entry.size for entry in group),
            cost=sum(entry.cost for entry in group),
            pinned=sum(entry.pinned for entry in group),
        )
        for product, group in groups.items()
    ]


def _product(entry: Entry) -> tuple[str | None, str | None]:
    return (entry.query.instrument, entry.query.product_type) if entry.query else (None, None)
