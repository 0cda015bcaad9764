"""Faults in the times of the versions of a recording, which wrong clocks leave."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from oda_proxy.http.scope import time_text
from oda_proxy.store.base import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from oda_proxy.query.cache_key import Key

_CLOCK_SKEW: Final = 3600.0
"""Seconds in the future that are no fault: clocks of several hosts differ."""


def faults(key: Key, times: Sequence[tuple[float, float | None]], now: float) -> Iterator[Fault]:
    """Report recordings of the future, and versions whose times overlap.

    `times` are since when and until when each version was the answer, in s since 1970 (UTC) and in this order; the
    second is None for the recording of today.
    """
    if times and times[-1][0] > now + _CLOCK_SKEW:
        since = time_text(times[-1][0])
        yield Fault(key, f"a clock was ahead: it is the answer since {since}, and not as of earlier times")
    if any(end is not None and end > begin for (_, end), (begin, _) in pairwise(times)) or any(
        end is not None and end <= begin for begin, end in times
    ):
        yield Fault(key, "a clock was set back: the times of its versions overlap; as of those, the first answers")
