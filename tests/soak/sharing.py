"""Several programs work on one store under load: no error, no lost recording, no wrong body.

Each puts under keys of its own and of all, reads everything, gives up recordings down to a limit, and sweeps. What
stands under its own pinned keys must be there at any time, as it was put last.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from oda_proxy.query.cache_key import Key
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.eviction import Limits
from oda_proxy.store.maintenance import prune
from tests.support.recordings import recording

PROGRAMS = 2
KEYS_OF_EACH = 20
SHARED_KEYS = 200
LIMIT = 2_000_000
"""Bytes: less than what is put, so that much is given up all the time."""


def text_of(number: int) -> bytes:
    """Make the text with this number."""
    draws = random.Random(number)  # noqa: S311 - the same each time
    return b"%d:" % number + draws.randbytes(draws.choice((10, 3_000, 100_000)))


def key_of(owner: int, number: int) -> Key:
    """Name a key of a program, or of all, whose number is that of the programs."""
    return Key(f"{owner:x}{number:063x}")


def work(folder: Path, program: int, until: float) -> dict[str, int]:
    """Work on the store, check all that is read, and count the steps."""
    draws = random.Random(program)  # noqa: S311 - the same each time
    own: dict[Key, int] = {}
    steps = {"put": 0, "hits": 0, "misses": 0, "given up": 0}
    with closing(DiskStore(folder)) as store:
        while time.time() < until:
            step, number = draws.random(), draws.randrange(2**30)
            if step < 0.15:
                key = key_of(program, draws.randrange(KEYS_OF_EACH))
                store.put(recording(key, text_of(number), stored_at=float(number)))
                if store.pin(key, pinned=True):
                    own[key] = number
                else:  # given up before it was pinned
                    own.pop(key, None)
                steps["put"] += 1
            elif step < 0.3:
                key = key_of(PROGRAMS, draws.randrange(SHARED_KEYS))
                store.put(recording(key, text_of(number), stored_at=float(number)))
                steps["put"] += 1
            elif step < 0.98:
                mine = own and step < 0.6
                key = draws.choice(list(own)) if mine else key_of(PROGRAMS, draws.randrange(SHARED_KEYS))
                found = store.get(key)
                steps["misses" if found is None else "hits"] += 1
                assert found is not None or not mine, f"{key} is lost"
                if found is not None:
                    assert not mine or int(found.stored_at) == own[key], f"{key} is an old one"
                    with closing(found.head) as head:
                        assert b"".join(head.pieces()) == text_of(int(found.stored_at)), f"{key} has a wrong body"
            elif step < 0.995:
                store.save_use_times()
                steps["given up"] += len(prune(store, Limits(LIMIT)))
            else:
                store.remove_orphans()
    return steps


def main() -> int:
    """Run, and say what was done; a failure ends with 1 and the reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, until = Path(place) / "store", time.time() + given.seconds
        with multiprocessing.get_context("spawn").Pool(PROGRAMS) as pool:
            counted = pool.starmap(work, [(folder, program, until) for program in range(PROGRAMS)])
        with closing(DiskStore(folder)) as store:
            faults = list(store.verify(fix=False))
        assert not faults, faults
    total = {name: sum(steps[name] for steps in counted) for name in counted[0]}
    told = ", ".join(f"{number} {name}" for name, number in total.items())
    print(f"{PROGRAMS} programs, {given.seconds:.0f} s: {told}; no error, none lost")  # noqa: T201 - a program
    return 0


if __name__ == "__main__":
    sys.exit(main())
