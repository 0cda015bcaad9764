"""Kill writers at random moments, and see after each time that nothing that was acknowledged is lost or damaged.

Two writers at once put, replace, read and remove recordings in one folder, each under keys of its own. Before and after
each step they write a line to a journal outside of the folder. Both are killed (SIGKILL), and a process that starts
anew compares: each key has what was acknowledged last, or what was begun and not acknowledged, and earlier versions
that are whole and do not overlap.

Everything runs in children of one process that has nothing open: a start costs a fork.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from oda_proxy.query.cache_key import Key
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.disk_verification import PENDING_AGE
from oda_proxy.store.history_limits import HistoryLimits
from tests.support.recordings import recording

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.store.base import Store

WRITERS = 2
KEYS_OF_EACH = 8
VERSIONS = 3
"""Earlier versions of a key that are stored at most."""
THOROUGH_EVERY = 10
"""Kills after which everything is verified."""
LONGEST = 0.05
"""Seconds for which writers write at the most: time for some dozens of steps."""
AT_ONCE = 0.1
"""Part of the kills that do not wait until the writers write: these hit them while they open the store."""
PATIENCE = 60.0
NOTHING = -1
"""What stands for a recording that was removed."""
LEFT_BY_A_CRASH = "a crashed writer left it"


@dataclass
class Expected:
    """What may be found under a key: the number of the text acknowledged last, and of those begun since."""

    acknowledged: int = NOTHING
    begun: list[int] = field(default_factory=list)


def text_of(number: int) -> bytes:
    """Make the text with this number: mostly small, sometimes larger than a page or a piece."""
    draws = random.Random(number)  # noqa: S311 - the same each time
    return b"%d:" % number + draws.randbytes(draws.choice((10, 300, 5_000, 100_000)))


def new_number() -> int:
    """Return the number of a text, which is greater than those before, and as a time in s before that of today."""
    return time.monotonic_ns() // 100_000 % 2**30


def key_of(writer: int, number: int) -> Key:
    """Name a key of a writer."""
    return Key(f"{writer:x}{number:063x}")


def write(folder: Path, journal: Path, writer: int, seed: int) -> None:
    """Work on the store until killed."""
    draws = random.Random(seed)  # noqa: S311 - the same each time
    lines = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    store = DiskStore(folder, history=HistoryLimits(VERSIONS))
    while True:
        key, number = key_of(writer, draws.randrange(KEYS_OF_EACH)), new_number()
        step = draws.random()
        if step < 0.15:
            if found := store.get(key):
                found.head.close()
            continue
        if step < 0.3:
            number = NOTHING
        os.write(lines, f"begin {key} {number}\n".encode())
        if number == NOTHING:
            store.remove(key)
        else:
            same_as = store.entry(key) if step > 0.9 else None
            store.put(recording(key, text_of(number), stored_at=float(number)), same_as=same_as)
        os.write(lines, f"done {key} {number}\n".encode())
        if step > 0.98:
            store.remove_orphans()


def expected(journals: list[Path]) -> dict[Key, Expected]:
    """Read what the writers said."""
    known = {key_of(writer, number): Expected() for writer in range(WRITERS) for number in range(KEYS_OF_EACH)}
    for journal in journals:
        for line in journal.read_text().splitlines():
            word, key, number = line.split()
            found = known[Key(key)]
            if word == "begin":
                found.begun.append(int(number))
            else:
                found.acknowledged, found.begun = int(number), []
    return known


def compare_recordings(store: Store, journals: list[Path]) -> None:
    """See that a store has each recording as it was acknowledged, or begun since."""
    for key, may in expected(journals).items():
        found = store.get(key)
        number = NOTHING
        if found is not None:
            number = int(found.stored_at)
            with closing(found.head) as head:
                assert b"".join(head.pieces()) == text_of(number), f"{key}: a wrong body"
        allowed = {may.acknowledged, *may.begun}
        assert number in allowed, f"{key}: found {number}, acknowledged {may.acknowledged}, begun {may.begun}"


def compare(folder: Path, journals: list[Path], *, thorough: bool) -> None:
    """See that the store has what it must have, and nothing else."""
    with closing(DiskStore(folder)) as store:
        compare_recordings(store, journals)
        for key in expected(journals):
            compare_versions(store, key)
        if thorough:
            damage = [fault for fault in store.verify(fix=False) if fault.message != LEFT_BY_A_CRASH]
            assert not damage, damage


def compare_versions(store: Store, key: Key) -> None:
    """See that the earlier versions of a key are whole, in order, and no more than the limit."""
    versions = store.versions(key)
    earlier = [one for one in versions if one.valid_until is not None]
    assert len(earlier) <= VERSIONS, f"{key}: {len(earlier)} versions"
    for one, following in pairwise(versions):
        assert one.valid_until is not None, f"{key}: two recordings"
        assert one.valid_from < one.valid_until <= following.valid_from, f"{key}: versions overlap"
    for one in earlier:
        found = store.get_version(one)
        assert found is not None, f"{key}: a version without its recording"
        with closing(found.head) as head:
            assert b"".join(head.pieces()) == text_of(int(one.stored_at)), f"{key}: a wrong body in its history"


def settle(folder: Path) -> None:
    """See that what the crashes left can be swept away."""
    with closing(DiskStore(folder, clock=lambda: time.time() + PENDING_AGE + 1)) as store:
        store.remove_orphans()
        assert not list(store.verify(fix=False))


def child(work: Callable[[], None]) -> int:
    """Do something in a process of its own, and give its id."""
    if pid := os.fork():
        return pid
    try:
        work()
    except BaseException:  # noqa: BLE001 - a child must never run on in its parent's code
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def done(pid: int) -> None:
    """Wait for a process, and end where it failed."""
    _, status = os.waitpid(pid, 0)
    if status:
        sys.exit(f"a process ended with status {os.waitstatus_to_exitcode(status)}")


def kill_often(folder: Path, journals: list[Path], kills: int, seed: int) -> float:
    """Start writers, kill them, compare, again and again; give the longest time to compare, in s."""
    draws = random.Random(seed)  # noqa: S311 - the same each time
    slowest = 0.0
    for number in range(kills):
        sizes = [journal.stat().st_size for journal in journals]
        pids = [begun(folder, journals[writer], writer, draws.randrange(2**32)) for writer in range(WRITERS)]
        if draws.random() > AT_ONCE:
            wait_for(journals, sizes)
        time.sleep(draws.uniform(0, LONGEST))
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            if status != signal.SIGKILL:
                sys.exit(f"a writer failed with status {status}")
        began = time.monotonic()
        done(child(lambda number=number: compare(folder, journals, thorough=number % THOROUGH_EVERY == 0)))  # type: ignore[misc]
        slowest = max(slowest, time.monotonic() - began)
    done(child(lambda: settle(folder)))
    return slowest


def wait_for(journals: list[Path], sizes: list[int]) -> None:
    """Wait until each writer has begun a step."""
    deadline = time.monotonic() + PATIENCE
    while any(journal.stat().st_size == size for journal, size in zip(journals, sizes, strict=True)):
        assert time.monotonic() < deadline, "the writers do not write"
        time.sleep(0.001)


def begun(folder: Path, journal: Path, writer: int, seed: int) -> int:
    """Start a writer."""
    return child(lambda: write(folder, journal, writer, seed))


def main() -> int:
    """Run, and say what was done; a failure ends with 1 and the reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--place", type=Path, help="where to make the store (default: the folder for temporary files)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.place) as place:
        folder, journals = Path(place) / "store", [Path(place) / f"journal-{writer}" for writer in range(WRITERS)]
        for journal in journals:
            journal.touch()
        slowest = kill_often(folder, journals, given.kills, given.seed)
        lines = [line for journal in journals for line in journal.read_text().splitlines()]
    acknowledged = sum(line.startswith("done") for line in lines)
    print(  # noqa: T201 - a program of its own
        f"{given.kills} kills of {WRITERS} writers, {acknowledged} acknowledged steps, "
        f"{len(lines) - 2 * acknowledged} cut off, none lost, none wrong; slowest start and comparison {slowest:.2f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
