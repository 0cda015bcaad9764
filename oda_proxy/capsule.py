"""Capsules: the folder of what one run asked for, written as it comes and read with every check (docs/capsules.md).

A file that `capsule.json` lists does not change while the run goes on, so that a run which is interrupted, however it
is, leaves a capsule that can be read. What changes meanwhile (descriptions) is listed at the end.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.errors import FixtureError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from oda_proxy.failures import Failure
    from oda_proxy.key import Key
    from oda_proxy.recording import Recording

FORMAT: Final = 1
"""Version of the manifest."""
MANIFEST: Final = "capsule.json"
CRATE: Final = "ro-crate-metadata.json"


class NotACapsuleError(UsageError):
    """A folder that cannot be written to as a capsule."""


class CapsuleError(FixtureError):
    """A file of a capsule is missing, changed, or not what the format says; the message begins with its name."""


@dataclass(frozen=True, slots=True)
class Use:
    """How often something was used in the run, and when first (ISO, UTC)."""

    count: int
    first: str


@dataclass(frozen=True, slots=True)
class DispatcherCapsule:
    """What was recorded of one dispatcher."""

    name: str
    url: str
    """Which dispatcher was asked."""
    addresses: tuple[str, ...]
    """Under which addresses the command named it, in the order in which they came; `url` is among them if it was."""
    folder: Path
    """For `Remembered` and `Descriptions`."""
    failures: Mapping[Key, Failure]

    def recordings(self) -> Iterator[Recording]:
        """Read the recordings, one after the other; blocks. Raises CapsuleError."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Capsule:
    """A capsule that was opened: everything that its manifest lists is there, and as it was written."""

    folder: Path
    created: str
    ended: str | None
    """When the run ended (ISO, UTC); None where it was interrupted."""
    exit_status: int | None
    command: tuple[str, ...]
    key_version: int
    versions: Mapping[str, Any]
    dispatchers: tuple[DispatcherCapsule, ...]
    uses: Mapping[str, Use]
    """Uses of things, by their path in the capsule."""
    unlisted: tuple[str, ...] = field(default=())
    """Files in the capsule's own folders that the manifest does not list; they are not read."""

    def exchanges(self) -> Iterator[tuple[Mapping[str, Any], bytes]]:
        """Read the other exchanges, one after the other: the document of each, and its body. Raises CapsuleError."""
        raise NotImplementedError


def open_capsule(folder: Path) -> Capsule:
    """Open a capsule, and check all that its manifest lists, except that arrays are decoded when they are read.

    Blocks: every file is read once. Raises CapsuleError, which names the file.
    """
    raise NotImplementedError


class DispatcherWriter:
    """Keeps what one dispatcher answers; each method blocks, may be called from any thread, and raises CapsuleError."""

    folder: Path
    """For `Remembered` and `Descriptions`, which write there by themselves."""

    def named(self, address: str) -> None:
        """Take note of an address under which the command named the dispatcher."""

    def save_recording(self, recording: Recording) -> bool:
        """Keep a recording, in place of an earlier one of its key; tell whether it was kept.

        A private one is not, unless the capsule includes those.
        """
        raise NotImplementedError

    def save_failure(self, failure: Failure) -> bool:
        """Keep a failure, in place of an earlier one of its key; tell whether it was kept, as `save_recording` does."""
        raise NotImplementedError

    def used(self, key: Key) -> None:
        """Take note that a recording or a failure was given; nothing is written before the next thing is kept."""


class Writer:
    """Writes a capsule while a run goes on; each method blocks, may be called from any thread."""

    private_left_out: int
    """Recordings and failures that were not kept because they were asked for with a token."""

    def __init__(
        self,
        folder: Path,
        *,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        include_private: bool = False,
        replace: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Begin a capsule in a folder that is not there or empty.

        With `replace` it may be one with a capsule: what that one's manifest lists is removed, other files stay.
        `environment` is where tokens may stand that the command repeats; `clock` gives s since 1970 (UTC). Raises
        NotACapsuleError for any other folder, CapsuleError where it cannot be written.
        """
        raise NotImplementedError

    def dispatcher(self, url: str) -> DispatcherWriter:
        """Give the writer for a dispatcher: the same one for the same address."""
        raise NotImplementedError

    def save_exchange(self, name: str, document: Mapping[str, Any], body: bytes) -> None:
        """Keep another exchange under a name (a digest), once."""
        raise NotImplementedError

    def used_exchange(self, name: str) -> None:
        """Take note that another exchange was given."""

    def note_version(self, program: str, version: str) -> None:
        """Take note of the version of a program that took part: `oda_api`, `dispatcher`."""

    def finish(self, exit_status: int) -> None:
        """List everything, say how the command ended, and describe the capsule as an RO-Crate."""
        raise NotImplementedError
