"""The journal of running jobs, in a folder beside the recordings: the next process resumes them.

    jobs/<key>.json    the query, the dispatcher's name for the job, and when it was started

Nothing of the client is written. A job that was submitted with a token is resumed by the next client with a token.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Protocol

from oda_proxy.files import atomic
from oda_proxy.files.versions import path_of_format
from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Query

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_log = logging.getLogger(__name__)

FORMAT: Final = 1
"""Version of the files."""
MAX_SIZE: Final = 16 * 1024 * 1024
"""Bytes of a file: a query may hold a catalogue."""
MAX_JOBS: Final = 1000
"""Jobs that are resumed."""

_KEY: Final = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A job that ran when it was written; `started_at` is in s since 1970 (UTC)."""

    key: Key
    query: Query
    started_at: float
    job_id: str = ""
    """The dispatcher's name for it; empty for a job that was submitted with a token."""
    private: bool = False
    version: str = ""
    """The `oda_api_version` of the client that submitted it, which decides on the form of the answer."""


class Journal(Protocol):
    """Where the running jobs are written."""

    @property
    def folder(self) -> Path | None:
        """The folder of this host that it is in; None where other processes on this host do not read it."""

    @property
    def is_durable(self) -> bool:
        """Whether it survives the end of this process."""

    async def write(self, entry: JournalEntry) -> None:
        """Write an entry; where that fails, the job lives as long as this process."""

    async def read(self, key: Key) -> JournalEntry | None:
        """Return the entry of a job; None where there is none, or it cannot be read."""

    async def remove(self, key: Key) -> None:
        """Remove the entry of a job that has ended."""

    async def load(self) -> list[JournalEntry]:
        """Return the entries of jobs that no process runs, the oldest first."""


def serialise(entry: JournalEntry) -> bytes:
    """Return an entry as JSON."""
    members = {
        "key": entry.key,
        "query": asdict(entry.query),
        "begun": entry.started_at,
        "job_id": entry.job_id,
        "private": entry.private,
        "version": entry.version,
    }
    return json.dumps({"format": FORMAT, **members}, indent=1).encode()


def parse(key: Key, content: bytes) -> JournalEntry:
    """Parse the entry of a job. Raises KeyError, TypeError, ValueError or RecursionError where it is damaged."""
    if len(content) > MAX_SIZE:
        raise ValueError(f"it has more than {MAX_SIZE} bytes")
    members = json.loads(content)
    if members["format"] != FORMAT or members["key"] != key:
        raise ValueError("it is of another version, or of another job")
    return JournalEntry(
        key,
        Query.from_dict(members["query"]),
        float(members["begun"]),
        job_id=str(members["job_id"]),
        private=bool(members["private"]),
        version=str(members["version"]),
    )


class JobJournal:
    """The journal in a folder; without a folder, nothing is written.

    Entries in the folders of former addresses of the dispatcher are read, too: its jobs go on when it moves.
    """

    def __init__(self, folder: Path | None, former_folders: Sequence[Path] = ()) -> None:
        self.folder = folder
        self._has_failed = False
        self._folder = folder / "jobs" if folder else None
        self._former_folders = [former / "jobs" for former in former_folders]

    @property
    def is_durable(self) -> bool:
        """Whether it survives the end of this process."""
        return self.folder is not None

    async def write(self, entry: JournalEntry) -> None:
        """Write an entry; where that fails, the job lives as long as this process.

        One without the dispatcher's name for the job survives the end of the process, and not a loss of power: the
        first request waits for it.
        """
        if self._folder is None:
            return
        content = serialise(entry)
        try:
            await asyncio.to_thread(lambda: atomic.write(self._file(entry.key), content, flush=bool(entry.job_id)))
        except OSError as error:
            if not self._has_failed:  # and so will each job, where the folder is read-only
                _log.warning("cannot write running jobs to the journal: %s", error.strerror or error)
            self._has_failed = True
        else:
            self._has_failed = False

    async def read(self, key: Key) -> JournalEntry | None:
        """Return the entry of a job; None where there is none, or it cannot be read."""
        return await asyncio.to_thread(lambda: next(self._read(f"{key}*.json"), None))

    async def remove(self, key: Key) -> None:
        """Remove the entry of a job that has ended."""
        if self._folder is None:
            return
        try:
            await asyncio.to_thread(self._remove, key)
        except OSError as error:
            if not self._has_failed:  # the folder is no longer one, or read-only, and each job fails
                _log.warning("cannot remove an ended job from the journal: %s", error.strerror or error)
            self._has_failed = True

    async def load(self) -> list[JournalEntry]:
        """Return the entries of earlier processes, the oldest first; unreadable ones are logged and skipped."""
        return await asyncio.to_thread(lambda: sorted(self._read(), key=lambda entry: entry.started_at))

    def _file(self, key: Key, folder: Path | None = None) -> Path:
        """Return the file of a job; an entry of another release is in another one, and stays."""
        folder = folder or self._folder
        assert folder is not None  # noqa: S101 - for the type checker
        return path_of_format(folder / f"{key}.json", FORMAT)

    def _remove(self, key: Key) -> None:
        for folder in (self._folder, *self._former_folders):
            self._file(key, folder).unlink(missing_ok=True)

    def _read(self, pattern: str = "*.json") -> Iterator[JournalEntry]:
        """Read entries; of a job with several, that in the folder of the present address."""
        found: set[Key] = set()
        for folder in filter(None, (self._folder, *self._former_folders)):
            for entry in self._read_folder(folder, pattern):
                if entry.key not in found:
                    found.add(entry.key)
                    yield entry

    def _read_folder(self, folder: Path, pattern: str) -> Iterator[JournalEntry]:
        if not folder.is_dir():
            return
        for file in sorted(folder.glob(pattern))[:MAX_JOBS]:
            try:
                key = Key(file.name.partition(".")[0])
                if not _KEY.fullmatch(key) or file != self._file(key, folder) or file.stat().st_size > MAX_SIZE:
                    continue
                yield parse(key, file.read_bytes())
            except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
                _log.warning("the job in %s cannot be read: %s", file, error)
