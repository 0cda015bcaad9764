"""Many unmodified clients that send one query at once to servers behind nginx, which share a Redis that may fail."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.support.crowds import Process, kill, page, start_all, wait_until
from tests.support.front_end import front_end
from tests.support.redis_server import running_redis
from tests.support.replica_servers import replicas_running
from tests.support.servers import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from tests.support.crowds import Crowd
    from tests.support.redis_server import RedisServer
    from tests.support.replica_servers import Replicas
    from tests.support.servers import Server

DIGEST: Final = 64
"""Characters of the outcome of a client that got products."""


@dataclass(frozen=True)
class ReplicaStage:
    """Where a scene takes place, and how long what happens in it takes; times are in s."""

    folder: Path
    python: Callable[[str], Path]
    crowd: Crowd
    program: Sequence[str]
    """What runs a server."""
    time_scale: float = 1.0
    """The job is in progress after twice this, and ready after five times this."""
    pause: float = 0.0
    """From the first poll of the dispatcher to the failure."""
    outage: float = 20.0
    """How long Redis, or the network to it, is away."""

    @property
    def size(self) -> int:
        """The number of clients."""
        return sum(count for _, count in self.crowd)


@dataclass(frozen=True)
class Shared:
    """The programs of a scene, for what happens to them."""

    stage: ReplicaStage
    redis: RedisServer
    replicas: Replicas


@dataclass(frozen=True)
class ReplicaResult:
    """How the clients ended, and what the dispatcher and the front end counted."""

    outcomes: Counter[str]
    """Number of clients by the digest of all arrays that they got, or by their error."""
    longest_wait: float
    """Seconds that the last client waited."""
    waiting: int
    """How many clients waited when the failure happened."""
    upstream: dict[str, Any]
    """The status page of the dispatcher."""
    statuses: frozenset[str]
    """The HTTP statuses that clients received."""
    recordings: list[list[tuple[str, float]]]
    """Key and time of the recordings that each server lists in the end."""

    def faults(self, size: int) -> list[str]:
        """Return what is not as it must be, in words."""
        found = []
        if list(self.outcomes.values()) != [size] or len(next(iter(self.outcomes))) != DIGEST:
            found.append(f"clients ended as {dict(self.outcomes)}")
        if (jobs := self.upstream["jobs"]) != 1:
            found.append(f"the dispatcher had {jobs} jobs")
        if self.statuses != {"200"}:
            found.append(f"clients received the statuses {sorted(self.statuses)}")
        if len({tuple(one) for one in self.recordings}) != 1 or len(self.recordings[0]) != 1:
            found.append(f"servers have the recordings {self.recordings}")
        return found


def share(stage: ReplicaStage, event: Callable[[Shared], None]) -> ReplicaResult:
    """Have all clients send the query at the same moment; something happens while they wait."""
    folder = stage.folder
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis(folder / "redis"))
        scale = str(stage.time_scale)
        mock = stack.enter_context(running(folder / "mock.log", "mock", "--port", "0", "--time-scale", scale))
        replicas = stack.enter_context(
            replicas_running(folder, mock.url, redis, program=stage.program, options=("--trusted-proxy", "127.0.0.1"))
        )
        site = stack.enter_context(front_end(folder / "nginx", *(server.url for server in replicas.servers)))
        processes = [
            Process(stage.python(version), folder, site.url, count, authority=site.authority)
            for version, count in stage.crowd
        ]
        for process in processes:
            stack.callback(process.kill)
        for process in processes:
            process.wait_until_ready()
        start_all(processes)
        wait_until(lambda: page(mock, "status")["asked"].get("submitted", 0) > 0)  # the journal has the job's id
        time.sleep(stage.pause)  # when it happens is the point
        waiting = _waiting(replicas.living())
        event(Shared(stage, redis, replicas))
        results = [process.result() for process in processes]
        living = replicas.living()
        wait_until(lambda: not any(page(server, "status")["store"]["faults"] for server in living))
        return ReplicaResult(
            outcomes=sum((Counter(result["outcomes"]) for result in results), Counter()),
            longest_wait=max(result["longest_wait"] for result in results),
            waiting=waiting,
            upstream=page(mock, "status"),
            statuses=frozenset(line.split('" ')[1].split()[0] for line in site.access_log.read_text().splitlines()),
            recordings=[_recordings(server) for server in living],
        )


def nothing(_: Shared) -> None:
    """Let all servers go on."""


def leader_killed(shared: Shared) -> None:
    """Kill the server that runs the job."""
    kill(shared.replicas.servers[shared.replicas.leader()])


def redis_restarted(shared: Shared) -> None:
    """Kill Redis, and start it again."""
    shared.redis.kill()
    time.sleep(shared.stage.outage / 10)  # how long it is away is the point
    shared.redis.start()


def leader_cut(shared: Shared) -> None:
    """Cut the network between the server that runs the job and Redis."""
    _cut(shared, shared.replicas.leader())


def follower_cut(shared: Shared) -> None:
    """Cut the network between a server that follows the job and Redis."""
    _cut(shared, (shared.replicas.leader() + 1) % len(shared.replicas.servers))


EVENTS: Final[dict[str, Callable[[Shared], None]]] = {
    "nothing fails": nothing,
    "the leader killed": leader_killed,
    "Redis killed and started again": redis_restarted,
    "the leader cut off from Redis": leader_cut,
    "a follower cut off from Redis": follower_cut,
}


def _cut(shared: Shared, number: int) -> None:
    relay = shared.replicas.relays[number]
    relay.cut()
    time.sleep(shared.stage.outage)  # how long it is cut is the point
    relay.mend()


def _waiting(servers: Iterable[Server]) -> int:
    """Return how many clients wait for a job; one whose polls reached several servers counts for each."""
    return sum(job["sessions"] for server in servers for job in page(server, "jobs")["jobs"])


def _recordings(server: Server) -> list[tuple[str, float]]:
    return [(one["key"], one["stored_at"]) for one in page(server, "api/recordings")["recordings"]]
