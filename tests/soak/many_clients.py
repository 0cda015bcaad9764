"""Let 200 current clients and 20 of 2019 send the same query at once while servers fail, and print the results.

The scenes are those of `tests/clients/test_one_job.py`. The exit status is 1 if not all clients got the same data from
one job.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.support.crowds import SCENES, Result, Stage, proxy_killed, together
from tests.support.environments import python_of

PROCESSES = 4
TIME_SCALE = 4.0
"""The job takes 20 s: on few cores some of the clients start late."""
FEW = 3


def python(version: str) -> Path:
    return python_of(f"oda_api-{version}")


def line(name: str, size: int, result: Result, others: str) -> str:
    return (
        f"{name}: {size} clients, {len(result.outcomes)} kinds of outcome, "
        f"submissions {result.upstream['asked']['new']}{others}, polls {result.polls}, "
        f"products sent {sum(result.upstream['served'].values())}, longest wait {result.longest_wait:.1f} s"
    )


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is what the program is for


def main() -> int:
    """Run all scenes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200, help="current clients")
    parser.add_argument("--old", type=int, default=20, help="clients of 2019")
    options = parser.parse_args()
    current = [("1.3.5", options.clients // PROCESSES)] * PROCESSES
    exit_status = 0
    with tempfile.TemporaryDirectory() as place:

        def stage(name: str, crowd: list[tuple[str, int]]) -> Stage:
            folder = Path(place) / name.replace(" ", "-")
            folder.mkdir()
            return Stage(folder, python, crowd, time_scale=TIME_SCALE)

        alone = together(stage("alone", [("1.3.5", 1)]))
        say(line("one alone", 1, alone, ""))
        for name, scene in SCENES.items():
            # 1.0 does not retry: it fails when the proxy is killed.
            crowd = current if scene is proxy_killed else [*current, ("1.0", options.old)]
            crowd_stage = stage(name, crowd)
            result = scene(crowd_stage)
            submissions = [status["asked"]["new"] for status in (result.before, result.upstream) if status]
            others = f" (and {submissions[0]} before)" if len(submissions) > 1 else ""
            say(line(name, crowd_stage.size, result, others))
            expected = dict.fromkeys(alone.outcomes, crowd_stage.size)
            if result.outcomes != expected or result.polls > alone.polls + FEW or set(submissions) != {1}:
                say(f"    {dict(result.outcomes)}")
                exit_status = 1
    return exit_status


if __name__ == "__main__":
    sys.exit(main())
