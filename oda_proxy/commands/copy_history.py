"""Copies the earlier versions of recordings from one store to another."""

from __future__ import annotations

import math
from contextlib import closing
from typing import TYPE_CHECKING

from oda_proxy.commands.output import warn
from oda_proxy.query.cache_key import short_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.base import Entry, ManagedStore


def copy_versions(stored: ManagedStore, copies: ManagedStore, key: Key) -> tuple[int, int]:
    """Copy the earlier versions of a recording that the target has not; return how many, and how many failed.

    The times of versions do not overlap: one that was the answer while another one was in the target is left out, and
    a warning names it. Raises StoreUnusableError.
    """
    copied = failed = 0
    earlier = [one for one in stored.versions(key) if one.valid_until is not None]
    present = copies.versions(key) if earlier else []
    for entry in earlier:
        if any(_is_same(entry, one) for one in present):
            continue
        if any(_overlap(entry, one) for one in present if one.valid_from != entry.valid_from):
            warn(f"a version of {short_key(key)} was not copied: the target has another one of the same time")
            failed += 1
            continue
        damaged = stored.damaged
        recording = stored.get_version(entry)
        if recording is None:
            if stored.damaged > damaged:  # else it was removed meanwhile
                warn(f"a version of {short_key(key)} cannot be read, and was not copied")
                failed += 1
            continue
        with closing(recording.head):
            copies.restore(recording, entry)
        copied += 1
    return copied, failed


def keys_without_recording(stored: ManagedStore) -> Iterator[Key]:
    """Iterate over the keys of which there are earlier versions, and no recording."""
    return (key for key in stored.version_keys_beginning("") if stored.entry(key) is None)


def _is_same(entry: Entry, present: Entry) -> bool:
    return _times(entry) == _times(present) and entry.stored_at == present.stored_at


def _overlap(entry: Entry, present: Entry) -> bool:
    (begin, end), (other_begin, other_end) = _times(entry), _times(present)
    return begin < other_end and other_begin < end


def _times(entry: Entry) -> Sequence[float]:
    return entry.valid_from, math.inf if entry.valid_until is None else entry.valid_until
