"""The command `copy`: the recordings of a dispatcher, with versions, pins and collections, from one store to another.

It can be interrupted and run again: what the target has already, as new or newer, is not read.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from oda_proxy.commands import copy_progress, formatting
from oda_proxy.commands.collections import open_collections
from oda_proxy.commands.copy_collections import copy_collections
from oda_proxy.commands.copy_history import copy_versions, keys_without_recording
from oda_proxy.commands.open_store import open_store
from oda_proxy.commands.output import print_json, print_lines, warn
from oda_proxy.config.settings import StoreOptions
from oda_proxy.errors import OdaProxyError, UsageError
from oda_proxy.query.cache_key import short_key
from oda_proxy.query.message_text import printable

if TYPE_CHECKING:
    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.base import Entry, ManagedStore
    from oda_proxy.store.redis.address import StoreAddress

_AGAIN: Final = "the same command again copies what is missing"


class NothingToCopyError(OdaProxyError):
    """A store has no recordings of a dispatcher."""

    def __init__(self, place: Path | StoreAddress, upstream: str) -> None:
        super().__init__(
            f"there are no recordings of {upstream} in {place}; use --upstream as for oda-proxy serve, and the place "
            "that it has as --cache-dir or --store"
        )


def copy_recordings(source: Path | StoreAddress, target: Path | StoreAddress, *, upstream: str, as_json: bool) -> int:
    """Copy all recordings with their versions, pins and collections; the exit status is 1 if one cannot be copied.

    Where it is interrupted, or a store fails, it prints how far it came, and raises. Raises UsageError where both are
    the same place, or share the heads of their recordings.
    """
    _check_places(source, target)
    counts = {"copied": 0, "present": 0, "removed": 0, "failed": 0, "versions": 0, "collections": 0}
    failure: BaseException | None = None
    collections = open_collections(_options(source, upstream))
    has_collections = bool(collections.list())
    with ExitStack() as stack:
        stored = stack.enter_context(open_store(_options(source, upstream), create=has_collections))
        _warn_of_others(stored, source)
        total = stored.usage().recordings
        if not (total or stored.history_usage().versions or has_collections):
            raise NothingToCopyError(source, upstream)
        copies = stack.enter_context(open_store(_options(target, upstream), create=True))
        try:
            with copy_progress.showing(total, is_silent=as_json) as count:
                for entry in stored.entries():
                    counts[_copy(stored, copies, entry)] += 1
                    _copy_versions(stored, copies, entry.key, counts)
                    count()
                for key in keys_without_recording(stored):
                    _copy_versions(stored, copies, key, counts)
            if has_collections:
                targets = open_collections(_options(target, upstream))
                counts["collections"] = copy_collections(collections, targets, copies)
        except (KeyboardInterrupt, SystemExit, OdaProxyError, OSError) as error:
            failure = error
    print_json(counts) if as_json else print_lines([_summary(counts)])
    if failure is not None:
        is_signal = isinstance(failure, KeyboardInterrupt | SystemExit)
        warn(f"{'interrupted' if is_signal else 'ended early'}; {_AGAIN}")
        raise failure
    return 1 if counts["failed"] else 0


def _check_places(source: Path | StoreAddress, target: Path | StoreAddress) -> None:
    """Raise UsageError where recordings cannot be copied from one place to the other."""
    if isinstance(source, Path) and isinstance(target, Path):
        source, target = source.resolve(), target.resolve()
    if source == target:
        raise UsageError("--from and --to name the same place")
    if not isinstance(source, Path) and not isinstance(target, Path) and source.bodies == target.bodies:
        # Each would remove the heads of the other, which its own index does not name.
        raise UsageError(
            f"--from and --to both have bodies={source.bodies}, which belong to one Redis: name another folder, "
            "or another prefix in the bucket"
        )


def _copy(stored: ManagedStore, copies: ManagedStore, entry: Entry) -> str:
    """Copy one recording, unless the target has it; return the name of its count. Raises StoreUnusableError."""
    present = copies.entry(entry.key)
    outcome = "present"
    if present is None or present.stored_at < entry.stored_at:
        damaged = stored.damaged
        recording = stored.peek(entry.key)
        if recording is None and stored.damaged == damaged:
            return "removed"
        if recording is None:
            warn(f"{short_key(entry.key)} cannot be read, and was not copied")
            return "failed"
        with closing(recording.head):
            copies.restore(recording, entry)
        outcome = "copied"
    if entry.pinned and not (present and present.pinned):
        copies.pin(entry.key, pinned=True)
    return outcome


def _copy_versions(stored: ManagedStore, copies: ManagedStore, key: Key, counts: dict[str, int]) -> None:
    """Copy the earlier versions of a recording, and count them."""
    copied, failed = copy_versions(stored, copies, key)
    counts["versions"] += copied
    counts["failed"] += failed


def _warn_of_others(stored: ManagedStore, place: Path | StoreAddress) -> None:
    """Print how many recordings of the source belong to other releases, and are not copied."""
    others = stored.other_recordings()
    if others.recordings:
        count = formatting.number(others.recordings, "recording")
        formats = ", ".join(printable(one) for one in others.formats)
        warn(f"{count} of another release (format {formats}) in {place} cannot be read, and will not be copied")


def _summary(counts: dict[str, int]) -> str:
    removed = f", {counts['removed']} removed meanwhile" if counts["removed"] else ""
    others = (("versions", "earlier version"), ("collections", "collection"))
    copied = [formatting.number(counts[name], what) for name, what in others if counts[name]]
    also = f"; also {' and '.join(copied)} copied" if copied else ""
    return (
        f"{formatting.number(counts['copied'], 'recording')} copied, {counts['present']} present already{removed}, "
        f"{counts['failed']} failed{also}"
    )


def _options(place: Path | StoreAddress, upstream: str) -> StoreOptions:
    if isinstance(place, Path):
        return StoreOptions(upstream=upstream, cache_dir=place)
    return StoreOptions(upstream=upstream, store=place)
