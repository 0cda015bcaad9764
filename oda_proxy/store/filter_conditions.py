"""The conditions of filters in SQL, for the secondary indexes: a recording that meets the filters meets them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from oda_proxy.store import secondary_index
from oda_proxy.store.search import MAX_TEXT, folded
from oda_proxy.store.selection import fits

if TYPE_CHECKING:
    from oda_proxy.store.base import ProductTotals
    from oda_proxy.store.index import Index
    from oda_proxy.store.read_only_index import ReadOnlyIndex
    from oda_proxy.store.selection import Filters

_MAX_PRODUCTS = 300
"""Products that are named in one condition."""
_SPECIAL = re.compile(r"[*?]|\[.*", re.DOTALL)
"""What is no text in a pattern; a bracket may begin a set of characters."""


def conditions(index: Index | ReadOnlyIndex, filters: Filters) -> tuple[str, list[Any]]:
    """Return the conditions with their values; recordings may meet them that do not meet the filters."""
    parts, values = ["1"], list[Any]()
    for condition, value in (
        ("stored_at < ?", filters.stored_before),
        ("used_at < ?", filters.used_before),
        ("size > ?", filters.larger_than),
    ):
        if value is not None:
            parts.append(condition)
            values.append(value)
    if filters.instrument is not None or filters.product is not None:
        products = [*{(one.instrument, one.product) for one in secondary_index.totals(index) if _has(one, filters)}]
        if len(products) <= _MAX_PRODUCTS:
            pairs = ",".join(["(?, ?)"] * len(products))
            parts.append(f"(instrument, product) IN (VALUES {pairs})" if products else "0")
            values += [name for product in products for name in product]
    if filters.source is not None:
        # Of a long text only the beginning is in the index. It may have null characters, at which `length` would stop.
        parts.append(f"(instr(subject, ?) > 0 OR length(CAST(subject AS BLOB)) >= {MAX_TEXT})")
        values.append(folded(max(_SPECIAL.split(filters.source), key=len)))
    return " AND ".join(parts), values


def _has(one: ProductTotals, filters: Filters) -> bool:
    """Return whether recordings of a product can meet the filters."""
    return (
        one.instrument is not None
        and one.product is not None
        and fits(filters.instrument, [one.instrument])
        and fits(filters.product, [one.product])
    )
