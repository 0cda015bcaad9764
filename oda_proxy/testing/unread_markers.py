"""Markers of classes and modules that no test reads: a recording that they name is never used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(slots=True)
class MarkedScope:
    """A class or module with a marker, and its tests.

    Attributes
    ----------
    keywords
        The keywords of the marker.
    tests
        Number of its tests.
    ran
        Node ids of those that ran or were skipped.
    is_read
        Whether a fixture of one of them reads the marker.
    """

    keywords: tuple[str, ...]
    tests: int = 0
    ran: set[str] = field(default_factory=set)
    is_read: bool = False

    def update(self, other: MarkedScope) -> None:
        """Add what a worker ran of the same scope."""
        self.ran |= other.ran
        self.is_read |= other.is_read


def unread(scopes: Mapping[str, MarkedScope]) -> Iterator[str]:
    """Describe the markers that no test reads, in a line each; scopes of which some tests did not run are left out."""
    for name, scope in sorted(scopes.items()):
        if not scope.is_read and len(scope.ran) == scope.tests:
            tests = "its test does not read" if scope.tests == 1 else f"none of its {scope.tests} tests reads"
            keywords = ", ".join(f"{keyword}=..." for keyword in scope.keywords)
            yield f"{name}: {tests} the marker oda({keywords}): use oda_dispatcher_url or oda_proxy"
