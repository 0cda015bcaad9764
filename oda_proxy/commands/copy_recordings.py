"""The command `copy`: the recordings of a dispatcher from one store to another.

It can be interrupted and run again: what the target has already, as new or newer, is not read.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from oda_proxy.commands import formatting
from oda_proxy.commands.open_store import open_store
from oda_proxy.commands.output import print_json, print_lines, warn
from oda_proxy.commands.recordings import Progress
from oda_proxy.config.settings import StoreOptions
from oda_proxy.errors import UsageError
from oda_proxy.query.cache_key import short_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oda_proxy.store.base import Entry, Store
    from oda_proxy.store.redis.address import StoreAddress


def copy_recordings(source: Path | StoreAddress, target: Path | StoreAddress, *, upstream: str, as_json: bool) -> int:
    """Copy all recordings with their pins; the exit status is 1 if one cannot be read."""
    if source == target:
        raise UsageError("--from and --to name the same place")
    counts = {"copied": 0, "present": 0, "failed": 0}
    with ExitStack() as stack:
        stored = stack.enter_context(open_store(_options(source, upstream)))
        copies = stack.enter_context(open_store(_options(target, upstream), create=True))
        count = stack.enter_context(_progress(stored.usage().recordings, is_silent=as_json))
        for entry in stored.entries():
            counts[_copy(stored, copies, entry)] += 1
            count()
    if as_json:
        print_json(counts)
    else:
        print_lines(
            [
                (
                    f"{formatting.number(counts['copied'], 'recording')} copied, {counts['present']} present already, "
                    f"{counts['failed']} failed"
                )
            ]
        )
    return 1 if counts["failed"] else 0


def _copy(stored: Store, copies: Store, entry: Entry) -> str:
    """Copy one recording, unless the target has it; return the name of its count. Raises StoreUnusableError."""
    present = copies.entry(entry.key)
    outcome = "present"
    if present is None or present.stored_at < entry.stored_at:
        recording = stored.peek(entry.key)
        if recording is None:
            warn(f"{short_key(entry.key)} cannot be read, and was not copied")
            return "failed"
        with closing(recording.head):
            copies.put(recording)
        outcome = "copied"
    if entry.pinned and not (present and present.pinned):
        copies.pin(entry.key, pinned=True)
    return outcome


def _options(place: Path | StoreAddress, upstream: str) -> StoreOptions:
    if isinstance(place, Path):
        return StoreOptions(upstream=upstream, cache_dir=place)
    return StoreOptions(upstream=upstream, store=place)


@contextmanager
def _progress(total: int, *, is_silent: bool) -> Iterator[Callable[[], None]]:
    """Show progress until the block ends: a bar on a terminal where rich is installed, else a line every few seconds.

    The function that is returned counts one recording.
    """
    if is_silent or not sys.stderr.isatty():
        yield (lambda: None) if is_silent else Progress(total).count
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
    except ImportError:  # pip install 'oda-proxy[progress]'
        yield Progress(total).count
        return
    columns = (TextColumn("recordings"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("recordings", total=total)
        yield lambda: bar.advance(task)
