"""Progress of `copy`: a bar on a terminal where rich is installed, else a line every few seconds."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from oda_proxy.commands.recordings import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def showing(total: int, *, is_silent: bool) -> Iterator[Callable[[], None]]:
    """Show progress on standard error until the block ends; the function that is returned counts one recording."""
    if is_silent:
        yield lambda: None
        return
    lines = Progress(total, done="done")
    if not sys.stderr.isatty() or os.environ.get("TERM") in {None, "", "dumb"}:
        yield lines.count
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
    except ImportError:  # pip install 'oda-proxy[progress]'
        yield lines.count
        return
    left = TextColumn("left"), TimeRemainingColumn(compact=True)
    columns = (TextColumn("copying"), BarColumn(bar_width=30), MofNCompleteColumn(), *left)
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
