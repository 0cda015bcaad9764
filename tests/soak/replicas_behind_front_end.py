"""Let 100 clients of two releases send one query at once to three servers behind nginx that share a Redis.

Meanwhile the server that leads the job is killed, Redis is killed and started again, or the network between one server
and Redis drops everything for 20 s. The exit status is 1 if a client saw an error, two clients got different data, or
the dispatcher had more than one job.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.support.environments import python_of
from tests.support.replica_crowds import EVENTS, ReplicaStage, share
from tests.support.replica_servers import REAL

CROWD = [("1.3.5", 25), ("1.3.5", 25), ("1.3.5", 25), ("1.0", 25)]


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is what the program is for


def main() -> int:
    """Run all scenes, several times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1, help="how often each scene is run")
    parser.add_argument("--seed", type=int, default=1, help="of the durations of jobs, and of when something fails")
    parser.add_argument("--outage", type=float, default=20.0, help="seconds for which the network is cut")
    parser.add_argument("--scene", choices=[*EVENTS], action="append", help="run this scene alone; may be repeated")
    parser.add_argument("--keep", type=Path, help="folder in which the logs of runs that failed are left")
    options = parser.parse_args()
    draws = random.Random(options.seed)  # noqa: S311 - the same each time
    exit_status = 0
    for run in range(options.runs):
        for name in options.scene or EVENTS:
            time_scale, pause = draws.uniform(1.5, 6.0), draws.uniform(0.0, 2.0)
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place)
                stage = ReplicaStage(
                    folder,
                    lambda version: python_of(f"oda_api-{version}"),
                    CROWD,
                    REAL,
                    time_scale=time_scale,
                    pause=pause,
                    outage=options.outage,
                )
                result = share(stage, EVENTS[name])
                faults = result.faults(stage.size)
                say(
                    f"run {run + 1}, {name}: {stage.size} clients, {result.waiting} waited, a job of "
                    f"{5 * time_scale:.0f} s, failure {pause:.1f} s after the first poll, longest wait "
                    f"{result.longest_wait:.1f} s, submissions {result.upstream['asked']['new']}; "
                    f"{'; '.join(faults) or 'as it must be'}"
                )
                if faults:
                    exit_status = 1
                    if options.keep:
                        keep_logs(folder, options.keep / f"{run + 1}-{name.replace(' ', '-')}")
    return exit_status


def keep_logs(folder: Path, target: Path) -> None:
    """Copy the logs of a run."""
    target.mkdir(parents=True, exist_ok=True)
    for file in folder.rglob("*.log"):
        (target / file.name).write_bytes(file.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
