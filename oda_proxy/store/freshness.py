"""Freshness: how long a recording is served without asking the dispatcher again.

A computed result does not change, so a recording stays fresh. The exception is an analysis of the last days: data were
still arriving when it ran, and the same query has a better answer tomorrow, or in an hour while data are being taken.
Rules of the configuration override this for instruments and products.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oda_proxy.recordings.recording import Recording

HOUR, DAY = 3600.0, 86400.0

FOR_EVER = float("inf")
CLOCK_TOLERANCE = 300.0
"""Seconds that the clocks of machines which share a folder may differ."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The lifetime, in s, of recordings of an instrument and a product; both are patterns with `*`."""

    instrument: str
    product: str
    lifetime: float

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Parse `INSTRUMENT/PRODUCT=DAYS`, where DAYS may be `never`; raises ValueError for other texts."""
        what, equals, days = text.rpartition("=")
        instrument, slash, product = what.partition("/")
        if not (equals and slash and instrument and product):
            raise ValueError(f"{text!r} is not INSTRUMENT/PRODUCT=DAYS")
        lifetime = FOR_EVER if days == "never" else float(days) * DAY
        if not lifetime >= 0:
            raise ValueError(f"{days!r} is not a number of days of at least 0")
        return cls(instrument, product, lifetime)

    def matches(self, instrument: str, product: str) -> bool:
        """Return whether the rule applies to an instrument and a product."""
        return fnmatchcase(instrument, self.instrument) and fnmatchcase(product, self.product)


@dataclass(frozen=True, slots=True)
class Freshness:
    """The configured rules, of which the first match counts; without a match, it depends on how recent the data are."""

    rules: tuple[Rule, ...] = ()
    recent: float = 14 * DAY
    """Age in s of the last data up to which more may still arrive: a cautious guess, as no delay is published."""
    recent_lifetime: float = DAY
    current: float = DAY
    """Age in s of the last data up to which more is still being taken; a query may also end in the future."""
    current_lifetime: float = HOUR

    def lifetime(self, recording: Recording, *, stored_at: float | None = None) -> float:
        """Return how long a recording is fresh, in s since it was stored: `stored_at`, if its own time is wrong."""
        stored_at = recording.stored_at if stored_at is None else stored_at
        echo = recording.echo
        if self.rules:
            instrument, product = str(echo.get("instrument", "")), str(echo.get("product_type", ""))
            for rule in self.rules:
                if rule.matches(instrument, product):
                    return rule.lifetime
        if "T2" not in echo:
            return FOR_EVER
        end = _timestamp(str(echo["T2"]))
        if end is None:  # it may be today
            return self.recent_lifetime
        if end > stored_at - self.current:
            return self.current_lifetime
        return self.recent_lifetime if end > stored_at - self.recent else FOR_EVER

    def is_fresh(self, recording: Recording, now: float) -> bool:
        """Return whether a recording is fresh at `now`, in s since 1970 (UTC).

        One from the future was stored while a clock was wrong, at an unknown time before `now`: it is fresh if one that
        is stored now is fresh for ever.
        """
        if recording.stored_at > now + CLOCK_TOLERANCE:
            return self.lifetime(recording, stored_at=now) == FOR_EVER
        return now - recording.stored_at < self.lifetime(recording)


@lru_cache(maxsize=4096)
def _timestamp(echoed: str) -> float | None:
    """Parse an echoed time (ISO 8601, UTC; dispatchers convert other formats) to s since 1970."""
    try:
        return datetime.fromisoformat(echoed).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
