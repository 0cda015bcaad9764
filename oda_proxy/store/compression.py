"""Compressed heads of the recordings in memory, made in the background when a client asks for the first time."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from oda_proxy.recordings.compressed import compress, is_compressible

if TYPE_CHECKING:
    from oda_proxy.recordings.compressed import CompressedHead
    from oda_proxy.recordings.loaded import LoadedRecording
    from oda_proxy.store.hot_tier import HotTier

_log = logging.getLogger(__name__)

MAX_WAITING = 100
"""Heads that wait for their turn; more are compressed when a client asks again."""


class BackgroundCompression:
    """Compresses heads one after the other in a thread, which ends when none is left."""

    def __init__(self, tier: HotTier) -> None:
        self._tier = tier
        self._lock = threading.Lock()
        self._waiting: OrderedDict[tuple[str, str], LoadedRecording] = OrderedDict()
        self._thread: threading.Thread | None = None

    def find(self, recording: LoadedRecording, coding: str) -> CompressedHead | None:
        """Return the compressed head of a recording in memory, or None; it is made in the background then."""
        if not is_compressible(recording):
            return None
        is_made, head = self._tier.compressed_head(recording, coding)
        if not is_made:
            self._request(recording, coding)
        return head

    def wait(self) -> None:
        """Wait until no head is left to compress."""
        while thread := self._thread:
            thread.join()

    def _request(self, recording: LoadedRecording, coding: str) -> None:
        with self._lock:
            if len(self._waiting) < MAX_WAITING:
                self._waiting.setdefault((recording.key, coding), recording)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="compression", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                (key, coding), recording = next(iter(self._waiting.items()))
            head = None
            try:
                head = compress(recording, coding)
            except Exception as error:  # noqa: BLE001 - whatever it is, the recording is sent as it is
                _log.error("cannot compress recording %s with %s: %r", key, coding, error)
            self._tier.add_compressed_head(recording, coding, head)
            with self._lock:
                del self._waiting[key, coding]
