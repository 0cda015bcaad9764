"""Commands on recordings: list, remove, pin, count, prune, check."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from oda_proxy.commands import formatting
from oda_proxy.commands.open_store import described, find, opened, opened_folder
from oda_proxy.commands.output import say, say_json, warn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from oda_proxy.store.base import Entry

_UNKNOWN = "?"
_LONGEST = 40
"""Characters of a parameter's value in a list: catalogues and lists of science windows are longer."""


def ls(*, upstream: str, cache_dir: Path | None, as_json: bool) -> int:
    """List recordings, the one asked for last first."""
    with opened(upstream, cache_dir) as store:
        entries = sorted(store.entries(), key=lambda entry: entry.used_at, reverse=True)
    if as_json:
        say_json([described(entry) for entry in entries])
        return 0
    if not entries:
        warn(f"nothing was recorded of {upstream} there; say --upstream and --cache-dir as for oda-proxy serve")
    now = time.time()
    heading = ("KEY", "SIZE", "TOOK", "USED", "", "INSTRUMENT", "PRODUCT", "PARAMETERS")
    say(formatting.table([heading, *(_line(entry, now) for entry in entries)], right=frozenset({1, 2, 3})))
    return 0


def rm(keys: Sequence[str], *, upstream: str, cache_dir: Path | None, as_json: bool) -> int:
    """Remove recordings: all that are named, or none where one of them is not there."""
    with opened(upstream, cache_dir) as store:
        entries = find(store, keys)
        removed = [entry.key for entry in entries if store.remove(entry.key)]
    if as_json:
        say_json({"removed": removed})
    else:
        say(f"removed {key[: formatting.SHORT]}" for key in removed)
    return 0


def pin(keys: Sequence[str], *, pinned: bool, upstream: str, cache_dir: Path | None, as_json: bool) -> int:
    """Say of recordings that they are never given up for lack of space, or that they may be again."""
    with opened(upstream, cache_dir) as store:
        done = [entry.key for entry in find(store, keys) if store.pin(entry.key, pinned=pinned)]
    name = "pinned" if pinned else "unpinned"
    if as_json:
        say_json({name: done})
    else:
        say(f"{name} {key[: formatting.SHORT]}" for key in done)
    return 0


def stats(*, upstream: str, cache_dir: Path | None, as_json: bool) -> int:
    """Count what is kept."""
    with opened(upstream, cache_dir) as store:
        usage, entries = store.usage(), list(store.entries())
    by_instrument: defaultdict[str, dict[str, float]] = defaultdict(lambda: {"recordings": 0, "size": 0, "cost": 0.0})
    for entry in entries:
        row = by_instrument[entry.query.instrument if entry.query else _UNKNOWN]
        row["recordings"] += 1
        row["size"] += entry.size
        row["cost"] += entry.cost
    counted: dict[str, Any] = {
        "upstream": upstream,
        "recordings": usage.recordings,
        "occupied": usage.occupied,
        "size": sum(entry.size for entry in entries),
        "cost": sum(entry.cost for entry in entries),
        "pinned": sum(entry.pinned for entry in entries),
        "instruments": {name: by_instrument[name] for name in sorted(by_instrument)},
    }
    if as_json:
        say_json(counted)
        return 0
    held = formatting.number(usage.recordings, "recording")
    say(
        [
            f"{held} of {formatting.plain(upstream)}, {counted['pinned']} pinned",
            f"{formatting.size(counted['size'])} of products in {formatting.size(usage.occupied)} on the disk",
            f"{formatting.span(counted['cost'])} of the dispatcher's time",
        ]
    )
    lines = [
        (formatting.plain(name), f"{row['recordings']:.0f}", formatting.size(row["size"]), formatting.span(row["cost"]))
        for name, row in counted["instruments"].items()
    ]
    say(formatting.table([("INSTRUMENT", "NUMBER", "SIZE", "TOOK"), *lines], right=frozenset({1, 2, 3})))
    return 0


def prune(*, upstream: str, cache_dir: Path | None, max_size: int, as_json: bool) -> int:
    """Give up what is beyond the limit now, and remove what crashed writers left."""
    from oda_proxy.store import maintenance

    with opened(upstream, cache_dir) as store:
        given_up = maintenance.prune(store, max_size)
        swept = store.remove_orphans()
        left = store.usage()
    if as_json:
        say_json({"removed": [entry.key for entry in given_up], "leftovers": swept, "occupied": left.occupied})
        return 0
    say(f"removed {entry.key[: formatting.SHORT]}, {formatting.size(entry.size)}" for entry in given_up)
    kept = formatting.number(left.recordings, "recording")
    say([f"left: {kept}, with {formatting.size(left.occupied)} of {formatting.size(max_size)}"])
    return 0


def verify(folder: Path | None, *, fix: bool, upstream: str, cache_dir: Path | None, as_json: bool) -> int:
    """Read everything in a store; say each fault in one line, and end with 1 where one is left."""
    with opened_folder(folder) if folder else opened(upstream, cache_dir) as store:
        faults = list(store.verify(fix=fix))
        left = list(store.verify(fix=False)) if fix and faults else faults
        number = store.usage().recordings if not left else 0
    if as_json:
        found = [{"about": fault.subject, "said": fault.message} for fault in faults]
        say_json({"sound": not left, "faults": found, "mended": len(faults) - len(left)})
    else:
        say(f"{fault.subject}: {formatting.plain(fault.message)}" for fault in faults)
        say([_verdict(len(faults), len(left), number)])
    return 1 if left else 0


def is_store(folder: Path) -> bool:
    """Tell whether a folder holds a store."""
    return (folder / "heads").is_dir()


def _verdict(faults: int, left: int, number: int) -> str:
    if left:
        return f"{formatting.number(left, 'fault')}; oda-proxy verify --fix removes what is damaged"
    sound = formatting.number(number, "sound recording")
    return f"{sound}, {formatting.number(faults, 'fault')} mended" if faults else sound


def _line(entry: Entry, now: float) -> tuple[str, ...]:
    query = entry.query
    return (
        entry.key[: formatting.SHORT],
        formatting.size(entry.size),
        formatting.span(entry.cost) if entry.cost else "",
        f"{formatting.span(max(now - entry.used_at, 0.0))} ago",
        " ".join(word for word, is_so in (("pinned", entry.pinned), ("private", entry.private)) if is_so),
        formatting.plain(query.instrument) if query else _UNKNOWN,
        formatting.plain(query.product_type) if query else _UNKNOWN,
        " ".join(f"{name}={formatting.short(value, _LONGEST)}" for name, value in formatting.parameters(query)),
    )
