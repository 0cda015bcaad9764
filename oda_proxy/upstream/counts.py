"""Counts of requests to a dispatcher since the start."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from oda_proxy.metrics.histogram import REQUEST_BOUNDS, Histogram

if TYPE_CHECKING:
    from oda_proxy.http.message import Request

STATUSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx", "none")
"""Classes of statuses; `none` where there was no response."""


@dataclass(slots=True)
class UpstreamCounts:
    """How many requests were sent and answered, in what time, with how many bytes in their bodies."""

    replies: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATUSES, 0))
    durations: Histogram = field(default_factory=lambda: Histogram(REQUEST_BOUNDS))
    """Time until the head of a response."""
    sent: int = 0
    received: int = 0

    def note_request(self, request: Request) -> None:
        """Count the body of a request; one that is streamed has no known size."""
        if isinstance(request.body, bytes):
            self.sent += len(request.body)

    def note_received(self, size: int) -> None:
        """Count some bytes of the body of a response."""
        self.received += size

    def note_reply(self, status: int | None, duration: float = 0.0) -> None:
        """Count a response and the s that it took, or that there was none."""
        if status is None:
            self.replies["none"] += 1
            return
        self.replies[f"{min(max(status // 100, 1), 5)}xx"] += 1
        self.durations.add(duration)
