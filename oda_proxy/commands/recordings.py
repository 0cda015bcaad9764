"""Commands on the recordings of a store: `ls`, `rm`, `pin`, `stats`, `prune`, `verify`."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Any

from oda_proxy.commands import formatting
from oda_proxy.commands.open_store import open_store, open_store_in
from oda_proxy.commands.output import print_flushed, print_json, print_json_list, print_lines, warn, warn_of_no_match
from oda_proxy.errors import UsageError
from oda_proxy.query.cache_key import short_key
from oda_proxy.query.message_text import printable, shorten
from oda_proxy.store.entry_json import entry_json
from oda_proxy.store.selection import select

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from oda_proxy.config.settings import StoreOptions
    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.base import Entry, Store
    from oda_proxy.store.selection import Filters

AT = "@"
"""What separates a key from the date of a version."""
_REPORT_EVERY = 5.0
"""Seconds between two messages on the progress of `verify`."""
_UNKNOWN = "?"
_LONGEST = 40
"""Maximum length of a parameter's value in `ls`: catalogues and lists of science windows are longer."""


def ls(*, filters: Filters, options: StoreOptions, as_json: bool) -> int:
    """List recordings, the one used last first; each is printed as soon as it is read."""
    with open_store(options) as store:
        _warn_of_others(store)
        entries = store.entries_by_use(filters)
        if as_json:
            print_json_list(entry_json(entry) for entry in entries)
            return 0
        first = next(entries, None)
        if first is None and filters:
            warn_of_no_match(options.upstream)
        elif first is None:
            warn(
                f"there are no recordings of {options.upstream}; use --upstream and --cache-dir as for oda-proxy serve"
            )
        print_flushed(recording_table(entries if first is None else chain([first], entries)))
    return 0


def rm(
    keys: Sequence[str],
    *,
    filters: Filters,
    capsule: Path | None,
    all_versions: bool,
    is_confirmed: bool,
    dry_run: bool,
    options: StoreOptions,
    as_json: bool,
) -> int:
    """Remove recordings from the store, or from a capsule: all that are named, or none if a key is unknown.

    Recordings that filters select are listed only, unless `is_confirmed`. Raises UsageError for filters of a capsule.
    """
    if capsule is not None:
        return _rm_from_capsule(capsule, keys, filters, dry_run=dry_run, as_json=as_json)
    if all_versions or any(AT in key for key in keys):
        check_versions(keys, filters, all_versions=all_versions)
        from oda_proxy.commands.history import remove_versions

        return remove_versions(keys, all_versions=all_versions, dry_run=dry_run, options=options, as_json=as_json)
    with open_store(options) as store:
        entries = select(store, keys, filters)
        if not entries:
            warn_of_no_match(options.upstream)
        if dry_run or (filters and not is_confirmed):
            return print_dry_run(entries, "removed", "rm with --yes removes them", as_json=as_json)
        removed = store.remove_each(entry.key for entry in entries)
        status = print_keys("removed", removed, as_json=as_json)
        _warn_of_remaining_versions(store, [entry.key for entry in entries])
        return status


def check_versions(keys: Sequence[str], filters: Filters, *, all_versions: bool) -> None:
    """Raise UsageError unless keys name either all versions, or one with its date each."""
    if filters or not keys or any((AT in key) == all_versions for key in keys):
        raise UsageError("--all-versions takes keys without a date, and no filters; KEY@DATE names one version")


def _warn_of_remaining_versions(store: Store, keys: Sequence[Key]) -> None:
    """Warn that earlier versions of recordings that were removed remain."""
    if remaining := sum(len(store.versions(key)) for key in keys):
        what = formatting.number(remaining, "earlier version")
        warn(f"{what} of them {'stays' if remaining == 1 else 'stay'}; rm --all-versions removes them, too")


def _rm_from_capsule(capsule: Path, keys: Sequence[str], filters: Filters, *, dry_run: bool, as_json: bool) -> int:
    from oda_proxy.capsule import rewriting

    if filters or dry_run or not keys:
        raise UsageError("rm --capsule takes keys, and neither filters nor --dry-run")
    return print_keys("removed", rewriting.remove(capsule, keys), as_json=as_json)


def pin(
    keys: Sequence[str],
    *,
    filters: Filters,
    dry_run: bool,
    pinned: bool,
    options: StoreOptions,
    as_json: bool,
) -> int:
    """Exempt recordings from eviction, or end the exemption."""
    name = "pinned" if pinned else "unpinned"
    with open_store(options) as store:
        entries = select(store, keys, filters)
        if not entries:
            warn_of_no_match(options.upstream)
        if dry_run:
            return print_dry_run(entries, name, "without --dry-run, they are", as_json=as_json)
        done = store.pin_all((entry.key for entry in entries), pinned=pinned)
    if not pinned:
        from oda_proxy.commands.collections import warn_of_members

        warn_of_members(done, options)
    return print_keys(name, done, as_json=as_json)


def print_keys(what: str, keys: Iterable[str], *, as_json: bool) -> int:
    """Print which recordings a command has changed; the exit status is 0."""
    if as_json:
        print_json({what: list(keys)})
    else:
        print_flushed(f"{what} {short_key(key)}" for key in keys)
    return 0


def print_dry_run(entries: Sequence[Entry], what: str, hint: str, *, as_json: bool) -> int:
    """Print which recordings a command would change; the exit status is 0."""
    if as_json:
        print_json({what: [], f"would_be_{what}": [entry.key for entry in entries]})
        return 0
    if not entries:
        return 0
    print_lines(recording_table(entries))
    size = formatting.size(sum(entry.size for entry in entries))
    print_lines([f"{formatting.number(len(entries), 'recording')}, {size}; nothing was {what}: {hint}"])
    return 0


def recording_table(entries: Iterable[Entry]) -> Iterator[str]:
    """Return the lines of a table of recordings, for people."""
    now = time.time()
    heading = ("KEY", "SIZE", "TOOK", "USED", "", "INSTRUMENT", "PRODUCT", "PARAMETERS")
    lines = (_line(entry, now) for entry in entries)
    return formatting.streamed_table(heading, lines, right=frozenset({1, 2, 3}))


def stats(*, options: StoreOptions, as_json: bool) -> int:
    """Print the number, size and cost of recordings."""
    with open_store(options) as store:
        usage, totals, others = store.usage(), store.totals(), store.other_recordings()
        _warn_of_others(store)
    by_instrument: defaultdict[str, dict[str, float]] = defaultdict(lambda: {"recordings": 0, "size": 0, "cost": 0.0})
    for one in totals:
        row = by_instrument[_UNKNOWN if one.instrument is None else one.instrument]
        row["recordings"] += one.recordings
        row["size"] += one.size
        row["cost"] += one.cost
    statistics: dict[str, Any] = {
        "upstream": options.upstream,
        "recordings": usage.recordings - others.recordings,
        "occupied": usage.occupied - others.occupied,
        "others": asdict(others),
        "size": sum(one.size for one in totals),
        "cost": sum(one.cost for one in totals),
        "pinned": sum(one.pinned for one in totals),
        "instruments": {name: by_instrument[name] for name in sorted(by_instrument)},
    }
    if as_json:
        print_json(statistics)
        return 0
    count = formatting.number(statistics["recordings"], "recording")
    print_lines(
        [
            f"{count} of {printable(options.upstream)}, {statistics['pinned']} pinned",
            f"{formatting.size(statistics['size'])} of products in {formatting.size(statistics['occupied'])} on disk",
            f"{formatting.span(statistics['cost'])} of the dispatcher's time",
        ]
    )
    lines = [
        (printable(name), f"{row['recordings']:.0f}", formatting.size(row["size"]), formatting.span(row["cost"]))
        for name, row in statistics["instruments"].items()
    ]
    print_lines(formatting.table([("INSTRUMENT", "NUMBER", "SIZE", "TOOK"), *lines], right=frozenset({1, 2, 3})))
    return 0


def prune(*, options: StoreOptions, max_size: int, min_free: int, other_releases: bool, as_json: bool) -> int:
    """Evict recordings beyond the limits now, and remove files of crashed writers."""
    from oda_proxy.store import maintenance
    from oda_proxy.store.eviction import Limits

    limits = Limits(max_size, min_free)
    with open_store(options) as store:
        evicted = []
        for entry in maintenance.evictions(store, limits):
            evicted.append(entry.key)
            if not as_json:
                print_flushed([f"removed {short_key(entry.key)}, {formatting.size(entry.size)}"])
        others = store.remove_other_recordings() if other_releases else 0
        orphans = store.remove_orphans()
        left = store.usage()
        if excess := maintenance.exceeded(store, limits):
            _warn_of_excess(store, excess)
        _warn_of_others(store)
    if as_json:
        print_json({"removed": evicted, "others": others, "leftovers": orphans, "occupied": left.occupied})
        return 0
    if others:
        print_lines([f"removed {formatting.number(others, 'recording')} of other releases"])
    count = formatting.number(left.recordings, "recording")
    print_lines([f"left: {count}, with {formatting.size(left.occupied)} of {formatting.size(max_size)}"])
    return 0


def _warn_of_excess(store: Store, excess: int) -> None:
    """Print why recordings exceed a limit although all that may be evicted are gone."""
    from oda_proxy.store import eviction

    entries = list(store.entries())
    if pinned := [entry for entry in entries if entry.pinned]:
        size = formatting.size(eviction.pinned_size(pinned))
        reason = f"{formatting.number(len(pinned), 'pinned recording')} with {size} stay; unpin some to evict them"
    elif entries:
        reason = f"{formatting.number(len(entries), 'recording')} could not be removed"
    else:
        reason = "there is nothing left to evict, other files fill the disk"
    warn(f"still {formatting.size(excess)} over the limit: {reason}")


def verify(folder: Path | None, *, fix: bool, options: StoreOptions, as_json: bool) -> int:
    """Check all files of a store, and print each fault in one line; the exit status is 1 if one remains."""
    with open_store_in(folder) if folder else open_store(options) as store:
        faults = []
        progress = Progress(store.usage().recordings)
        for fault in store.verify(fix=fix, checked=progress.count):
            faults.append(fault)
            if not as_json:
                print_flushed([f"{fault.subject}: {printable(fault.message)}"])
        remaining = list(store.verify(fix=False)) if fix and faults else faults
        sound = store.usage().recordings - store.other_recordings().recordings if not remaining else 0
        _warn_of_others(store)
    if as_json:
        found = [{"about": fault.subject, "said": fault.message} for fault in faults]
        print_json({"sound": not remaining, "faults": found, "mended": len(faults) - len(remaining)})
    else:
        print_lines([_verdict(len(faults), len(remaining), sound, fix=fix)])
    return 1 if remaining else 0


class Progress:
    """Prints on standard error how many recordings are checked, or what else `done` says, every few seconds."""

    def __init__(self, total: int, *, done: str = "checked", stopwatch: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._done = done
        self._stopwatch = stopwatch
        self._checked = 0
        self._reported_at = stopwatch()

    def count(self) -> None:
        """Count one more recording."""
        self._checked += 1
        if (now := self._stopwatch()) - self._reported_at >= _REPORT_EVERY:
            self._reported_at = now
            warn(f"{self._checked} of {formatting.number(self._total, 'recording')} {self._done}")


def _warn_of_others(store: Store) -> None:
    """Print how many recordings belong to other releases."""
    others = store.other_recordings()
    if others.recordings:
        count = formatting.number(others.recordings, "recording")
        formats = ", ".join(printable(one) for one in others.formats)
        warn(
            f"{count} of another release (format {formats}, {formatting.size(others.occupied)}): left alone; "
            "oda-proxy prune --other-releases removes them"
        )


def is_store(folder: Path) -> bool:
    """Whether a folder holds a store."""
    return (folder / "heads").is_dir()


def _verdict(faults: int, remaining: int, sound: int, *, fix: bool) -> str:
    if remaining and fix:
        return f"{formatting.number(remaining, 'fault')} left: what cannot be read or removed by this user stays"
    if remaining:
        return f"{formatting.number(remaining, 'fault')}; oda-proxy verify --fix removes damaged files"
    recordings = formatting.number(sound, "sound recording")
    return f"{recordings}, {formatting.number(faults, 'fault')} fixed" if faults else recordings


def _line(entry: Entry, now: float) -> tuple[str, ...]:
    query = entry.query
    return (
        short_key(entry.key),
        formatting.size(entry.size),
        formatting.span(entry.cost) if entry.cost else "",
        f"{formatting.span(max(now - entry.used_at, 0.0))} ago",
        " ".join(word for word, is_so in (("pinned", entry.pinned), ("private", entry.private)) if is_so),
        printable(query.instrument) if query else _UNKNOWN,
        printable(query.product_type) if query else _UNKNOWN,
        " ".join(f"{name}={shorten(value, _LONGEST)}" for name, value in formatting.parameters(query)),
    )
