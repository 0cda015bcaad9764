"""Job ids of the dispatcher, which are not unique: two queries can have one id."""

from __future__ import annotations

import re
from threading import Lock
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

if TYPE_CHECKING:
    from oda_proxy.query.cache_key import Key

MAX_JOB_IDS: Final = 10_000
"""Job ids that are remembered, each with the key of the query it last belonged to."""

_JOB_ID: Final = re.compile(rb'"job_id"\s*:\s*"([^"\\]{1,100})"')


def read_job_id(body: bytes) -> str:
    """Return the job id of an answer, or "". The products, which come before it, are not parsed."""
    found = _JOB_ID.search(body, max(body.rfind(b'"job_monitor"'), 0))
    return found[1].decode("utf-8", "replace") if found else ""


class JobIdCollisions:
    """Counts how often a job id comes with another query than before. Thread-safe."""

    def __init__(self) -> None:
        self.count = 0
        self._keys: LRUCache[str, Key] = LRUCache(MAX_JOB_IDS)
        self._lock = Lock()

    def record(self, job_id: str, key: Key) -> None:
        """Record the job id of an answer to the query of a key; an empty id is ignored."""
        if job_id:
            with self._lock:
                self.count += self._keys.get(job_id, key) != key
                self._keys[job_id] = key
