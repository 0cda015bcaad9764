"""Kill the master of a Redis with a replica while clients of two servers wait for a job; a sentinel replaces it.

The exit status is 1 if a client saw an error, the results differ, the dispatcher had more than one job, or the servers
have not the same recording afterwards.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from tests.support.crowds import page, wait_until
from tests.support.redis_topologies import redis_with_sentinel
from tests.support.replica_servers import REAL
from tests.support.servers import PATIENCE, running
from tests.support.worker_servers import Client

CLIENTS = 6
TIME_SCALE = 3.0
"""The job takes 15 s: longer than the failover."""


def fail_over(folder: Path) -> list[str]:
    """Run the scene; return what is not as it must be, in words."""
    with ExitStack() as stack:
        watched = stack.enter_context(redis_with_sentinel(folder, replicas=1))
        words = ("mock", "--port", "0", "--synthetic", "--time-scale", str(TIME_SCALE))
        mock = stack.enter_context(running(folder / "mock.log", *words))
        servers = []
        for number in range(2):
            store = ("--store", f"{watched.url}?bodies=file://{folder}/heads", "--cache-dir", str(folder / str(number)))
            options = ("serve", "--upstream", mock.url, "--port", "0", *store)
            servers.append(stack.enter_context(running(folder / f"{number}.log", *options, program=REAL)))
        pool = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        clients = [Client(servers[number % 2].url, f"SESSION{number:09}") for number in range(CLIENTS)]
        waiting = [pool.submit(client.get_product) for client in clients]
        wait_until(lambda: page(mock, "status")["asked"].get("submitted", 0) > 0)
        killed_at = time.monotonic()
        watched.master.kill()
        wait_until(lambda: all(page(server, "status")["replicas"]["away_since"] for server in servers))
        wait_until(lambda: not any(page(server, "status")["replicas"]["away_since"] for server in servers))
        back = time.monotonic() - killed_at
        responses = [one.result(PATIENCE) for one in waiting]
        wait_until(lambda: not any(page(server, "status")["store"]["faults"] for server in servers))
        listed = [page(server, "api/recordings")["recordings"] for server in servers]
        recordings = [[(one["key"], one["stored_at"]) for one in each] for each in listed]
        say(f"failover in {back:.1f} s, submissions {page(mock, 'status')['asked']['new']}")
        faults = []
        if {response["query_status"] for response in responses} != {"done"}:
            faults.append("a client got no product")
        if len({str(response["products"]["numpy_data_product_list"]) for response in responses}) != 1:
            faults.append("clients got different products")
        if (jobs := page(mock, "status")["jobs"]) != 1:
            faults.append(f"the dispatcher had {jobs} jobs")
        if recordings[0] != recordings[1] or len(recordings[0]) != 1:
            faults.append(f"the servers have {recordings}")
        return faults


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is what the program is for


def main() -> int:
    """Run the scene several times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    exit_status = 0
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            if faults := fail_over(Path(folder)):
                say(f"    {'; '.join(faults)}")
                exit_status = 1
    return exit_status


if __name__ == "__main__":
    sys.exit(main())
