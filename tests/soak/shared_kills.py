"""Kill writers, Redis and the object server at random moments; nothing acknowledged is lost, no body is wrong.

Two writers put, replace, read and remove recordings in a store in Redis, whose heads are in a bucket. As in `kills.py`,
each journals its steps. After a random time, all writers, Redis or the object server are killed (SIGKILL) in turn. What
was killed is started again, and a process compares.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store.history_limits import HistoryLimits
from oda_proxy.store.redis.address import StoreAddress
from oda_proxy.store.redis.opening import open_store
from tests.soak.kills import (
    KEYS_OF_EACH,
    NOTHING,
    VERSIONS,
    WRITERS,
    child,
    compare_recordings,
    compare_versions,
    done,
    expected,
    key_of,
    new_number,
    text_of,
    wait_for,
)
from tests.support.object_server import ObjectServer
from tests.support.recordings import recording
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from oda_proxy.store.redis.store import RedisStore

UPSTREAM = "https://example.org/dispatcher"
LONGEST = 0.2
"""Seconds for which writers write at most before something is killed."""
TRIES = 200
"""How often a server that was just started is tried."""
THOROUGH_EVERY = 15


def opened(url: str) -> RedisStore:
    """Open the store, as soon as its servers respond."""
    for _ in range(TRIES):
        with suppress(StoreUnusableError):
            return open_store(
                StoreAddress.parse(url), UPSTREAM, track_use=False, history=HistoryLimits(max_versions=VERSIONS)
            )
        time.sleep(0.05)
    sys.exit("the store cannot be opened")


def write(url: str, journal: Path, writer: int, seed: int) -> None:
    """Work on the store until killed; while a server is away, steps fail."""
    draws = random.Random(seed)  # noqa: S311 - the same each time
    lines = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    store = opened(url)
    while True:
        key, number = key_of(writer, draws.randrange(KEYS_OF_EACH)), new_number()
        step = draws.random()
        try:
            if step < 0.15:
                if found := store.get(key):
                    found.head.close()
                continue
            number = NOTHING if step < 0.3 else number
            os.write(lines, f"begin {key} {number}\n".encode())
            if number == NOTHING:
                store.remove(key)
            else:
                store.put(recording(key, text_of(number), stored_at=float(number)))
            os.write(lines, f"done {key} {number}\n".encode())
            if step > 0.98:
                store.remove_orphans()
        except StoreUnusableError:
            time.sleep(0.01)


def compare(url: str, journals: list[Path], *, thorough: bool) -> None:
    """See that the store has what it must have, and nothing else."""
    with closing(opened(url)) as store:
        compare_recordings(store, journals)
        for key in expected(journals):
            compare_versions(store, key)
        assert not store.damaged, "a recording was damaged"
        if thorough:
            faults = [fault for fault in store.verify(fix=False) if "crashed writer" not in fault.message]
            assert not faults, faults


def kill_often(redis: RedisServer, objects: ObjectServer, folder: Path, kills: int, seed: int) -> None:
    """Let writers write, kill something, compare, again and again."""
    draws = random.Random(seed)  # noqa: S311 - the same each time
    url = f"{redis.url}?{objects.parameters}"
    journals = [folder / f"journal-{writer}" for writer in range(WRITERS)]
    for journal in journals:
        journal.touch()
    for number in range(kills):
        sizes = [journal.stat().st_size for journal in journals]
        seeds = [draws.randrange(2**32) for _ in journals]
        pids = [child(partial(write, url, journals[writer], writer, seeds[writer])) for writer in range(WRITERS)]
        wait_for(journals, sizes)
        time.sleep(draws.uniform(0, LONGEST))
        if (victim := (None, redis, objects)[number % 3]) is not None:
            victim.kill()
            time.sleep(draws.uniform(0, 0.05))  # steps fail meanwhile
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            if status != signal.SIGKILL:
                sys.exit(f"a writer failed with status {status}")
        if victim is not None:
            victim.start()
        done(child(partial(compare, url, journals, thorough=number % THOROUGH_EVERY == 0)))


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        redis, objects = RedisServer(folder / "redis"), ObjectServer(folder / "objects" / "served")
        os.environ.update(objects.environment)
        try:
            redis.start()
            objects.start()
            kill_often(redis, objects, folder, arguments.kills, arguments.seed)
        finally:
            redis.kill()
            objects.kill()
    print(f"{arguments.kills} kills of writers, Redis and the object server: none lost, none wrong")  # noqa: T201 - the result


if __name__ == "__main__":
    main()
