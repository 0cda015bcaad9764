"""How long an answer stays good.

What was computed does not change: a recording lasts. The exception is an analysis of the last days, for which data were
still arriving when it was made: the same question has a better answer tomorrow. A house may say otherwise for an
instrument or a product.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oda_proxy.recordings.recording import Recording

DAY = 86400.0

FOR_EVER = float("inf")


@dataclass(frozen=True, slots=True)
class Rule:
    """How long, in s, answers of an instrument and a product last; both may hold `*` for any text."""

    instrument: str
    product: str
    lifetime: float

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read `INSTRUMENT/PRODUCT=DAYS`, where DAYS may be `never`; raises ValueError where it is none."""
        what, equals, days = text.rpartition("=")
        instrument, slash, product = what.partition("/")
        if not (equals and slash and instrument and product):
            raise ValueError(f"{text!r} is no rule")
        lifetime = FOR_EVER if days == "never" else float(days) * DAY
        if not lifetime >= 0:
            raise ValueError(f"{days!r} is no number of days")
        return cls(instrument, product, lifetime)

    def is_about(self, instrument: str, product: str) -> bool:
        """Tell whether the rule is about this instrument and product."""
        return fnmatchcase(instrument, self.instrument) and fnmatchcase(product, self.product)


@dataclass(frozen=True, slots=True)
class Freshness:
    """The rules of a house, of which the first that fits counts; without one, data of the last days last a day."""

    rules: tuple[Rule, ...] = ()
    recent: float = 14 * DAY
    """Age in s of the last data up to which more may have been on their way: a cautious guess: nobody publishes it."""
    recent_lifetime: float = DAY

    def lifetime(self, recording: Recording) -> float:
        """Say how long a recording is good, in s from when it was stored."""
        echo = recording.echo
        instrument, product = str(echo.get("instrument", "")), str(echo.get("product_type", ""))
        for rule in self.rules:
            if rule.is_about(instrument, product):
                return rule.lifetime
        if "T2" not in echo:
            return FOR_EVER
        end = _instant(echo["T2"])
        # An end that cannot be read may be of today.
        still_arriving = end is None or end > recording.stored_at - self.recent
        return self.recent_lifetime if still_arriving else FOR_EVER

    def is_fresh(self, recording: Recording, now: float) -> bool:
        """Tell whether a recording is still good at `now`, in s since 1970 (UTC)."""
        return now - recording.stored_at < self.lifetime(recording)


def _instant(echoed: Any) -> float | None:
    """Read the time that a dispatcher echoes (ISO, UTC; dispatchers convert other formats), in s since 1970."""
    try:
        return datetime.fromisoformat(str(echoed)).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
