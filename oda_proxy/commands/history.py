"""The command `history`, and comparisons of the versions of a recording: since when, and what changed by how much."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections import Counter
from contextlib import closing
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.capsule.conversion import wire_products
from oda_proxy.commands import formatting
from oda_proxy.commands.diff import drift_json, print_drift
from oda_proxy.commands.open_store import open_store
from oda_proxy.commands.output import print_flushed, print_json, print_lines
from oda_proxy.commands.recordings import AT
from oda_proxy.drift.comparison import Verdict, compare
from oda_proxy.drift.differences import EXACT, Tolerance, members
from oda_proxy.drift.drifts import Drift, Outcome
from oda_proxy.drift.sources import short_name
from oda_proxy.errors import CodecError, OdaProxyError, UsageError
from oda_proxy.http.scope import AsOf, time_texts
from oda_proxy.query.cache_key import short_key
from oda_proxy.query.message_text import printable
from oda_proxy.query.query import CLIENT_DEFAULTS
from oda_proxy.store.entry_json import entry_json
from oda_proxy.store.history_limits import version_at
from oda_proxy.store.selection import UnknownKeyError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from oda_proxy.config.settings import StoreOptions
    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.base import Entry, Store

_INDENT: Final = " " * 4
_DAY: Final = len("2026-03-01")
_MOST: Final = 6
"""Differences that are listed between two versions."""


class NoVersionError(OdaProxyError):
    """There is no version of a recording at a time."""

    def __init__(self, key: str, date: str, versions: Sequence[Entry]) -> None:
        since = ", ".join(time_texts([one.valid_from for one in versions]))
        super().__init__(f"there is no version of {key} at {date}; there are versions since {since}")


def history(key: str, *, options: StoreOptions, as_json: bool) -> int:
    """Print the versions of a recording: since when, and what changed since the one before."""
    with open_store(options) as store:
        versions = find_versions(store, key)
        changes = chain([None], (_drift(store, was, now, EXACT) for was, now in pairwise(versions)))
        if as_json:
            print_json({"versions": [_version_json(*one) for one in zip(versions, changes, strict=True)]})
        else:
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
            print_flushed(history_lines(versions, changes, width=width))
    return 0


def diff_versions(
    names: Sequence[str], *, options: StoreOptions, rtol: float, atol: float, ignored: Collection[str], as_json: bool
) -> int:
    """Compare two versions, each `KEY@DATE`, or KEY for the recording of today; the exit status is 1 if they differ."""
    with open_store(options) as store:
        was, now = (find_version(store, name) for name in names)
        drift = _drift(store, was, now, Tolerance(rtol, atol, frozenset(ignored)))
    print_drift(drift, as_json=as_json)
    return 0 if drift.outcome is Outcome.SAME else 1


def find_version(store: Store, name: str) -> Entry:
    """Return the metadata of a version, `KEY@DATE`, or of the recording KEY. Raises OdaProxyError."""
    beginning, at, date = name.partition(AT)
    versions = find_versions(store, beginning)
    if at:
        return _version_at(versions, beginning, date)
    if versions[-1].valid_until is not None:
        raise UnknownKeyError(beginning, 0)
    return versions[-1]


def find_earlier(versions: Sequence[Entry], beginning: str, date: str) -> Entry:
    """Return the version of a date, which is not today's. Raises NoVersionError and UsageError."""
    found = _version_at(versions, beginning, date)
    if found.valid_until is None:
        raise UsageError(f"{short_key(found.key)} is today's answer at that date: name it without @DATE")
    return found


def _version_at(versions: Sequence[Entry], beginning: str, date: str) -> Entry:
    if (found := version_at(versions, AsOf.parse(date).time)) is None:
        raise NoVersionError(beginning, date, versions)
    return found


def find_versions(store: Store, beginning: str) -> list[Entry]:
    """Return the metadata of the versions of a recording, in order of time. Raises UnknownKeyError."""
    text = beginning.casefold()
    keys: set[Key] = {*store.keys_beginning(text), *store.version_keys_beginning(text)} if text else set()
    if len(keys) != 1 or not (versions := store.versions(keys.pop())):
        raise UnknownKeyError(beginning, len(keys))
    return versions


def remove_versions(
    names: Sequence[str], *, all_versions: bool, dry_run: bool, options: StoreOptions, as_json: bool
) -> int:
    """Remove earlier versions: those named `KEY@DATE`, or with `all_versions` those of KEY, with its recording.

    All are removed, or none if one is unknown. Raises OdaProxyError.
    """
    with open_store(options) as store:
        chosen: list[Entry] = []
        for name in names:
            beginning, _, date = name.partition(AT)
            versions = find_versions(store, beginning)
            chosen += versions if all_versions else [find_earlier(versions, beginning, date)]
        if not dry_run:
            earlier = store.remove_versions([one for one in chosen if one.valid_until is not None])
            recordings = list(store.remove_each(one.key for one in chosen if one.valid_until is None))
            chosen = [one for one in chosen if one in earlier or one.key in recordings]
    return print_removed(chosen, dry_run=dry_run, as_json=as_json)


def print_removed(chosen: Sequence[Entry], *, dry_run: bool, as_json: bool) -> int:
    """Print which versions were removed, or would be; the exit status is 0."""
    moments = time_texts([one.valid_from for one in chosen])
    if as_json:
        texts = [f"{one.key}{AT}{moment}" for one, moment in zip(chosen, moments, strict=True)]
        print_json({"removed": [], "would_be_removed": texts} if dry_run else {"removed": texts})
        return 0
    verb = "would remove" if dry_run else "removed"
    print_lines(f"{verb} {short_key(one.key)}{AT}{moment}" for one, moment in zip(chosen, moments, strict=True))
    return 0


def _drift(store: Store, was: Entry, now: Entry, tolerance: Tolerance) -> Drift:
    """Compare two versions. Raises StoreUnusableError."""
    begin, end = time_texts([was.valid_from, now.valid_from])
    name = f"{short_key(was.key)}{AT}{begin} -> {AT}{end}"
    recorded, later = store.get_version(was), store.get_version(now)
    if recorded is None or later is None:
        for one in filter(None, (recorded, later)):
            one.head.close()
        return Drift(name, Outcome.FAILED, "one of the versions is damaged, or was removed meanwhile")
    with closing(recorded.head), closing(later.head):
        was_used, now_used = (
            {field: value for field, value in one.echo.items() if field not in CLIENT_DEFAULTS}
            for one in (recorded, later)
        )
        parameters = tuple(members("", was_used, now_used, tolerance))
        try:
            products = tuple(compare(wire_products(recorded), wire_products(later), tolerance))
        except CodecError as error:
            return Drift(name, Outcome.FAILED, str(error))
    differs = bool(parameters) or any(product.verdict is not Verdict.SAME for product in products)
    return Drift(name, Outcome.DIFFERS if differs else Outcome.SAME, "", products, parameters)


def history_lines(
    versions: Sequence[Entry], changes: Iterable[Drift | None], *, width: int | None = None
) -> Iterator[str]:
    """Return lines about versions in order of time, each with what changed since the one before, if that is known.

    On a terminal of this width, changes are broken between words.
    """
    last = versions[-1]
    times = sorted({time for one in versions for time in (one.valid_from, one.valid_until) if time is not None})
    moments = dict(zip(times, time_texts(times), strict=True))
    what = f" {short_name(last.query)}" if last.query else ""
    yield printable(f"{short_key(last.key)}{what}: {formatting.number(len(versions), 'version')}")
    for entry, change in zip(versions, changes, strict=True):
        until = "now" if entry.valid_until is None else moments[entry.valid_until]
        flags = "".join(f", {name}" for name, is_so in (("pinned", entry.pinned), ("private", entry.private)) if is_so)
        yield f"{moments[entry.valid_from]} until {until}, {formatting.size(entry.size)}{flags}"
        if change is not None:
            for line in _changes(change):
                yield from _indented(line, width)
    if len(versions) > 1:
        days = Counter(moments[one.valid_from][:_DAY] for one in versions)
        dates = [moments[one.valid_from] for one in (versions[0], last)]
        was, now = (date[:_DAY] if days[date[:_DAY]] == 1 else date for date in dates)
        yield "two of them are compared by"
        yield f"{_INDENT}oda-proxy diff {short_key(last.key)}{AT}{was} {short_key(last.key)}{AT}{now}"


def _indented(line: str, width: int | None) -> list[str]:
    """Return an indented line, as several that fit into a width."""
    if width is None:
        return [f"{_INDENT}{line}"]
    wrapper = textwrap.TextWrapper(width, _INDENT, _INDENT * 2, break_long_words=False, break_on_hyphens=False)
    return wrapper.wrap(line)


def _changes(drift: Drift) -> list[str]:
    """Return what changed between two versions, in some lines."""
    if drift.outcome is Outcome.FAILED:
        return [f"not compared: {printable(drift.reason)}"]
    lines = [f"{one.name} is {one.verdict}" for one in drift.products if one.verdict in {Verdict.NEW, Verdict.GONE}]
    differences = [(product.name, one) for product in drift.products for one in product.differences]
    differences.sort(
        key=lambda pair: pair[1].count is None
    )  # values before cards: these have the same change many times
    lines += [f"{name}: {one}" for name, one in differences]
    lines += [f"parameter {one}" for one in drift.parameters]
    if not lines:
        return ["no difference, but for what is volatile"]
    rest = len(lines) - _MOST
    return [*map(printable, lines[:_MOST]), *([f"and {rest} more differences"] if rest > 0 else [])]


def _version_json(entry: Entry, change: Drift | None) -> dict[str, Any]:
    changed = None if change is None else drift_json(change)
    return {**entry_json(entry), "valid_from": entry.valid_from, "change": changed}
