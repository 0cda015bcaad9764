"""Progress of `warm`: a bar on a terminal where rich is installed, else a line for each query that has ended."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from oda_proxy.commands import formatting
from oda_proxy.query.message_text import printable, shorten
from oda_proxy.warming.warm import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.live import Live
    from rich.progress import Progress, TaskID

    from oda_proxy.warming.warm import Warmed

_LONGEST = 60


class Lines:
    """Prints a line for each query that has ended, and collects them; for pipes and logs."""

    def __init__(self, total: int, *, is_silent: bool = False) -> None:
        self.warmed: dict[int, Warmed] = {}
        self._total = total
        self._is_silent = is_silent

    def started(self, number: int, name: str) -> None:
        """Print nothing."""

    def progress(self, number: int, text: str) -> None:
        """Print nothing."""

    def ended(self, number: int, warmed: Warmed) -> None:
        """Print what became of a query."""
        self.warmed[number] = warmed
        if not self._is_silent:
            self.print_line(f"[{len(self.warmed)}/{self._total}] {line_of(warmed)}")

    def refresh(self) -> None:
        """Show what has changed since; called several times a second."""

    def print_line(self, line: str) -> None:
        """Print a line at once."""
        print(line, flush=True)  # noqa: T201 - the output of the command


def line_of(warmed: Warmed) -> str:
    """Return what became of a query in one line."""
    took = f" ({formatting.span(warmed.duration)})" if warmed.outcome is Outcome.STORED else ""
    reason = f": {warmed.reason}" if warmed.reason else ""
    return printable(f"{warmed.outcome:<8}{warmed.name}{took}{reason}")


@contextmanager
def showing(total: int, *, is_silent: bool) -> Iterator[Lines]:
    """Show progress until the block ends."""
    if is_silent or not sys.stdout.isatty():
        yield Lines(total, is_silent=is_silent)
        return
    try:
        from rich.console import Console, Group
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    except ImportError:  # pip install 'oda-proxy[progress]'
        yield Lines(total)
        return
    text = TextColumn("{task.description}", markup=False)
    queries = Progress(TextColumn(" "), SpinnerColumn(), text, TimeElapsedColumn())
    whole = Progress(text, BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(highlight=False)
    # A thread of rich that refreshes would write between two lines of this one.
    with Live(Group(queries, whole), console=console, transient=True, auto_refresh=False) as live:
        bar = _Bar(total, queries, whole, live)
        try:
            yield bar
        finally:
            bar.clear()


class _Bar(Lines):
    """Shows a bar for all queries, a line for each that runs, and above them one for each that has ended."""

    def __init__(self, total: int, queries: Progress, whole: Progress, live: Live) -> None:
        super().__init__(total)
        self._queries = queries
        self._whole = whole
        self._live = live
        self._tasks: dict[int, tuple[TaskID, str]] = {}
        self._task = whole.add_task("warming", total=total)

    def started(self, number: int, name: str) -> None:
        """Show a line for a query."""
        name = shorten(printable(name), _LONGEST)
        self._tasks[number] = self._queries.add_task(name, total=None), name

    def progress(self, number: int, text: str) -> None:
        """Show the state of its job."""
        task, name = self._tasks[number]
        self._queries.update(task, description=f"{name}: {text.partition(',')[0]}")

    def ended(self, number: int, warmed: Warmed) -> None:
        """Replace its line by what became of it, unless there was a recording."""
        self.warmed[number] = warmed
        if number in self._tasks:
            self._queries.remove_task(self._tasks.pop(number)[0])
        if warmed.outcome is not Outcome.PRESENT:
            self.print_line(line_of(warmed))
        self._whole.advance(self._task)

    def clear(self) -> None:
        """Remove the lines of queries that run."""
        for number in tuple(self._tasks):
            self._queries.remove_task(self._tasks.pop(number)[0])
        self._live.refresh()

    def refresh(self) -> None:
        """Show the present state."""
        self._live.refresh()

    def print_line(self, line: str) -> None:
        """Print a line above the bar."""
        self._live.console.print(line, markup=False, soft_wrap=True)
