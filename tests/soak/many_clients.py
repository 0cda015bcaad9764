"""Have 200 clients of today and 20 of 2019 ask the same at once, while things fail, and print what came of it.

The stories are those of `tests/test_one_job.py`. Ends with 1 where not all clients got the same data by one job.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.support.crowds import STORIES, Seen, Stage, proxy_killed, together
from tests.support.environments import python_of

PROCESSES = 4
TIME_SCALE = 4.0
"""The job takes 20 s: some of the clients begin late where there are few cores."""
FEW = 3


def python(version: str) -> Path:
    return python_of(f"oda_api-{version}")


def line(name: str, size: int, seen: Seen, others: str) -> str:
    return (
        f"{name}: {size} clients, {len(seen.ends)} kinds of end, submissions {seen.upstream['asked']['new']}{others}, "
        f"polls {seen.polls}, products sent {sum(seen.upstream['served'].values())}, longest wait {seen.longest:.1f} s"
    )


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is what the program is for


def main() -> int:
    """Play all stories."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200, help="clients of today")
    parser.add_argument("--old", type=int, default=20, help="clients of 2019")
    options = parser.parse_args()
    of_today = [("1.3.5", options.clients // PROCESSES)] * PROCESSES
    status = 0
    with tempfile.TemporaryDirectory() as place:

        def stage(name: str, crowd: list[tuple[str, int]]) -> Stage:
            folder = Path(place) / name.replace(" ", "-")
            folder.mkdir()
            return Stage(folder, python, crowd, time_scale=TIME_SCALE)

        alone = together(stage("alone", [("1.3.5", 1)]))
        say(line("one alone", 1, alone, ""))
        for name, story in STORIES.items():
            # 1.0 does not try again: it ends when the server that it asks does.
            crowd = of_today if story is proxy_killed else [*of_today, ("1.0", options.old)]
            stands = stage(name, crowd)
            seen = story(stands)
            begun = [told["asked"]["new"] for told in (seen.before, seen.upstream) if told]
            others = f" (and {begun[0]} before)" if len(begun) > 1 else ""
            say(line(name, stands.size, seen, others))
            as_one = seen.ends == dict.fromkeys(alone.ends, stands.size) and seen.polls <= alone.polls + FEW
            if not as_one or set(begun) != {1}:
                say(f"    {dict(seen.ends)}")
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
