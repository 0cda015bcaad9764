"""Jobs that run, noted in a folder beside the recordings, so that whoever starts here next takes them up.

    jobs/<key>.json    what is asked, the dispatcher's name for the job, and since when it runs

Of the asker nothing is noted. A job that was begun with a token goes on when somebody with a token asks again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.files import atomic
from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_log = logging.getLogger(__name__)

FORMAT: Final = 1
"""Version of the files."""
MAX_SIZE: Final = 16 * 1024 * 1024
"""Bytes of a file: a query may hold a catalogue."""
MOST: Final = 1000
"""Jobs that are taken up."""

_KEY: Final = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A job that ran when it was noted; `begun` is in s since 1970 (UTC)."""

    key: Key
    query: Query
    begun: float
    job_id: str = ""
    """The dispatcher's name for it; not noted of what was asked with a token."""
    private: bool = False
    version: str = ""
    """The `oda_api_version` of who began it, which says what form of answer is wanted."""


class JobJournal:
    """The jobs that run, in a folder; without one, nothing is noted."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder / "jobs" if folder else None

    async def note(self, job: Unfinished) -> None:
        """Note a job; where that fails, it is known for as long as this process lives."""
        if self._folder is None:
            return
        content = json.dumps({"format": FORMAT, **asdict(job)}, indent=1).encode()
        try:
            await asyncio.to_thread(atomic.write, self._folder / f"{job.key}.json", content)
        except OSError as error:
            _log.warning("cannot note a job that runs: %s", error.strerror or error)

    async def forget(self, key: Key) -> None:
        """Forget a job that has ended."""
        if self._folder is None:
            return
        try:
            await asyncio.to_thread((self._folder / f"{key}.json").unlink, missing_ok=True)
        except OSError as error:
            _log.warning("cannot forget a job that has ended: %s", error.strerror or error)

    async def left(self) -> list[Unfinished]:
        """Give the jobs that an earlier run left, the oldest first; what cannot be read is passed over."""
        return await asyncio.to_thread(lambda: sorted(self._read(), key=lambda job: job.begun))

    def _read(self) -> Iterator[Unfinished]:
        if self._folder is None or not self._folder.is_dir():
            return
        for file in sorted(self._folder.glob("*.json"))[:MOST]:
            try:
                if not _KEY.fullmatch(file.stem) or file.stat().st_size > MAX_SIZE:
                    continue
                yield _unfinished(Key(file.stem), json.loads(file.read_bytes()))
            except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
                _log.warning("the job noted in %s cannot be read: %s", file, error)


def _unfinished(key: Key, noted: dict[str, Any]) -> Unfinished:
    """Read a note; raises KeyError, TypeError or ValueError for what is none."""
    if noted["format"] != FORMAT or noted["key"] != key:
        raise ValueError("it is of another version, or of another job")
    words = str(noted["job_id"]), bool(noted["private"]), str(noted["version"])
    return Unfinished(key, Query.from_dict(noted["query"]), float(noted["begun"]), *words)
