"""The view of the overview: figures of the store, and the recordings that a search finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.metrics.outcomes import Outcome
from oda_proxy.pages import quantities
from oda_proxy.pages.search_form import AGES, PAGE_SIZE
from oda_proxy.query.cache_key import short_key
from oda_proxy.query.message_text import shorten
from oda_proxy.query.subject import subject_of
from oda_proxy.store.search import Order

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from oda_proxy.metrics.snapshot import Snapshot
    from oda_proxy.pages.search_form import SearchForm
    from oda_proxy.store.base import Entry, ProductTotals
    from oda_proxy.store.search import Found

COLUMNS: Final = (
    (Order.TIME, "Time of the data (UTC)"),
    (Order.COST, "Computing time"),
    (Order.SIZE, "Size"),
    (Order.USE, "Last used"),
    (Order.STORED, "Stored"),
)
"""The columns by which recordings can be sorted."""
MAX_NAME: Final = 80
"""Longest name in a list, in characters."""

_HITS: Final = frozenset(outcome.label for outcome in (Outcome.HIT_HOT, Outcome.HIT_COLD, Outcome.STALE))


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its name, and a remark."""

    name: str
    value: str
    remark: str = ""
    fraction: float | None = None
    """How full something is, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class RecordingRow:
    """One recording in the list; texts are for people, `key` is for links."""

    key: str
    short_key: str
    product: str
    instrument: str
    source: str
    position: str
    time_range: str
    cost: str
    size: str
    used: str
    stored: str
    stored_at: str
    """The time itself."""
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Heading:
    """The heading of a column: a link that sorts by it."""

    title: str
    link: str
    direction: str
    """`ascending` or `descending` if the list is sorted by it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A value of a field, with its title."""

    value: str
    title: str
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class RecordingList:
    """A page of the list of recordings, with its form."""

    rows: Sequence[RecordingRow]
    summary: str
    headings: Sequence[Heading]
    values: Mapping[str, str]
    errors: Mapping[str, str]
    instruments: Sequence[Choice]
    products: Sequence[Choice]
    ages: Sequence[Choice]
    is_filtered: bool
    has_details: bool
    order: str
    is_ascending: bool
    previous: str
    """The query string of the page before, or an empty text."""
    next: str


def recording_list(form: SearchForm, found: Found, totals: Sequence[ProductTotals], *, now: float) -> RecordingList:
    """Return the view of a page; `totals`, of what the visitor may see, name instruments and products.

    `now` is in s since 1970 (UTC).
    """
    last = form.offset + len(found.entries)
    search = form.search
    return RecordingList(
        rows=[row_of(entry, now=now) for entry in found.entries],
        summary=_summary(form, found),
        headings=[_heading(form, order, title) for order, title in COLUMNS],
        values=form.values,
        errors=form.errors,
        instruments=_choices({one.instrument for one in totals}, search.instrument),
        products=_choices({one.product for one in totals}, search.product),
        ages=[Choice(value, title, form.values["age"] == value) for value, title in AGES],
        is_filtered=form.is_filtered,
        has_details=form.has_details,
        order=search.order.value,
        is_ascending=search.ascending,
        previous=form.link(page=str(form.page - 1)) if form.page > 1 else "",
        next=form.link(page=str(form.page + 1)) if last < found.total and found.entries else "",
    )


def row_of(entry: Entry, *, now: float) -> RecordingRow:
    """Return the row of a recording."""
    query, subject = entry.query, subject_of(entry.query)
    flags = (("pinned", entry.pinned), ("private", entry.private))
    return RecordingRow(
        key=entry.key,
        short_key=short_key(entry.key),
        product=shorten(query.product_type, MAX_NAME) if query else "unknown query",
        instrument=shorten(query.instrument, MAX_NAME) if query else "",
        source=shorten(", ".join(subject.sources), MAX_NAME),
        position=quantities.position(subject),
        time_range=quantities.time_range(subject),
        cost=quantities.span(entry.cost) if entry.cost > 0 else "",
        size=quantities.size(entry.size),
        used=quantities.age(entry.used_at, now),
        stored=quantities.age(entry.stored_at, now),
        stored_at=quantities.moment(entry.stored_at),
        flags=tuple(name for name, is_so in flags if is_so),
    )


@dataclass(frozen=True, slots=True)
class Savings:
    """What the server saved since it started."""

    hits: int
    """Queries that were answered from recordings."""
    queries: int
    seconds: float
    """Computing time of the dispatcher."""
    transferred: float
    """Bytes that clients received and the dispatcher did not send."""


def savings_of(snapshot: Snapshot) -> Savings:
    """Return what was saved, from the metrics."""
    outcomes = snapshot.get("queries_total", {}).items()
    return Savings(
        hits=round(sum(value[0] for labels, value in outcomes if labels[-1] in _HITS)),
        queries=round(sum(value[0] for _, value in outcomes)),
        seconds=_sum(snapshot, "saved_compute_seconds_total"),
        transferred=max(_sum(snapshot, "sent_bytes_total") - _sum(snapshot, "upstream_received_bytes_total"), 0.0),
    )


def figures(
    store: Mapping[str, Any], totals: Sequence[ProductTotals], savings: Savings, *, max_size: int | None
) -> list[Figure]:
    """Return the figures at the top of the page.

    `store` is that member of `/-/status`, `totals` are of what the visitor may see; sizes are in bytes.
    """
    occupied = store.get("occupied")
    result = []
    if occupied is not None:
        recordings = sum(one.recordings for one in totals)
        result.append(Figure("recordings", quantities.number(recordings), _products(totals)))
        limit = f"of {quantities.size(max_size)}" if max_size else "compressed"
        fraction = min(occupied / max_size, 1.0) if max_size else None
        result.append(Figure("stored", quantities.size(occupied), limit, fraction))
    cost = sum(one.cost for one in totals)
    result.append(Figure("computing time stored", quantities.hours(cost), "of the dispatcher"))
    result.append(Figure("saved since the start", quantities.hours(savings.seconds), _hits(savings)))
    return result


def _products(totals: Sequence[ProductTotals]) -> str:
    products = len({(one.instrument, one.product) for one in totals})
    pinned = sum(one.pinned for one in totals)
    return f"of {quantities.plural(products, 'product')}" + (f", {quantities.number(pinned)} pinned" if pinned else "")


def _hits(savings: Savings) -> str:
    if not savings.queries:
        return "there was no query yet"
    rate = f"{100 * savings.hits / savings.queries:.0f}{quantities.NO_BREAK}% of queries"
    transferred = f", {quantities.size(savings.transferred)} not downloaded" if savings.hits else ""
    return f"{quantities.plural(savings.hits, 'hit')} ({rate}){transferred}"


def _sum(snapshot: Snapshot, name: str) -> float:
    return sum(value[0] for value in snapshot.get(name, {}).values())


def _summary(form: SearchForm, found: Found) -> str:
    count = quantities.plural(found.total, "recording")
    if found.total <= PAGE_SIZE and form.page == 1:
        return count
    if not found.entries:
        return f"{count}; this page is beyond the last"
    first = form.offset + 1
    return f"{quantities.number(first)}\N{EN DASH}{quantities.number(first + len(found.entries) - 1)} of {count}"


def _heading(form: SearchForm, order: Order, title: str) -> Heading:
    search = form.search
    is_current = search.order is order
    ascending = is_current and not search.ascending
    direction = "" if not is_current else "ascending" if search.ascending else "descending"
    return Heading(title, form.link(sort=order.value, ascending="1" if ascending else ""), direction)


def _choices(names: Iterable[str | None], chosen: str | None) -> list[Choice]:
    found = sorted({name for name in names if name} | ({chosen} if chosen else set()))
    return [Choice(name, shorten(name, MAX_NAME), name == chosen) for name in found]
