"""Which recordings are fresh for a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oda_proxy.http.cache_control import CacheControl, cache_control

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.http.message import Request
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.freshness import Freshness


class FreshnessHandler:
    """Compares ages of recordings with the rules, and with what requests allow; offline, all are fresh."""

    def __init__(self, rules: Freshness, clock: Callable[[], float], *, is_online: bool) -> None:
        self.rules = rules
        self._clock = clock
        self._is_online = is_online

    def control(self, request: Request) -> CacheControl:
        """Return what a request allows; without a dispatcher nothing can be newer than a recording."""
        control = cache_control(request.headers)
        return control if self._is_online else CacheControl(only_if_cached=control.only_if_cached)

    def allows_age(self, recording: Recording, control: CacheControl) -> bool:
        """Return whether a request allows the age of a recording."""
        return control.allows(self._clock() - recording.stored_at)

    def is_fresh(self, recording: Recording, *, age_allowed: bool) -> bool:
        """Return whether a recording may be served; the file of one that may not is closed."""
        if not self._is_online or (age_allowed and self.rules.is_fresh(recording, self._clock())):
            return True
        recording.head.close()
        return False
