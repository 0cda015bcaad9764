"""Unmodified clients of several releases that use a proxy behind nginx with TLS while it is restarted."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.support.client_forks import client_environment, start_forked
from tests.support.crowds import QUERY, page, wait_until
from tests.support.front_end import front_end
from tests.support.paths import CLIENT_SCRIPTS
from tests.support.servers import PATIENCE, running
from tests.support.socket_activation import listening_sockets, running_on

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

WORKERS: Final = 2
HALF: Final = 12
QUERIES: Final = [{**QUERY, "radius": 5.0 + number} for number in range(2 * HALF)]
"""Queries with data of their own, which the mock makes up; clients send the second half shortly before the restart."""


@dataclass(frozen=True)
class Result:
    """What the clients saw, and what each query returns from the dispatcher itself."""

    outcomes: list[Counter[str]]
    """For each of `QUERIES`, the number of products by the digest of their arrays, or by the error."""
    expected: list[str]
    """For each of `QUERIES`, the digest, or the error, that the dispatcher itself returns."""
    jobs_at_restart: int
    after: int
    """Products that clients received after the restart."""
    access_log: str

    @property
    def unexpected(self) -> dict[str, int]:
        """What clients saw that they would not have seen from the dispatcher."""
        pairs = zip(self.outcomes, self.expected, strict=True)
        return {seen: count for found, right in pairs for seen, count in found.items() if seen != right}


class Users:
    """Some clients in one process."""

    def __init__(
        self,
        python: Path,
        folder: Path,
        url: str,
        count: int,
        first: int,
        *,
        authority: Path | None,
        once: bool = False,
    ) -> None:
        env = {**client_environment(), "HOME": str(folder), "MPLBACKEND": "agg"}
        env |= {"REQUESTS_CA_BUNDLE": str(authority)} if authority else {}
        words = [str(count), str(first), json.dumps(QUERIES), *(["one-pass"] if once else [])]
        self.products = 0
        self._outcomes: list[Counter[str]] = []
        self._script = start_forked(python, [str(CLIENT_SCRIPTS / "users.py"), url, *words], folder, env)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._script.stdout:
            if line == "product\n":
                self.products += 1
            else:
                found: list[dict[str, Any]] = json.loads(line)
                self._outcomes = [Counter(one) for one in found]

    def send(self, line: str) -> None:
        """Have every other client go on with the second half of the queries (`later`), or all of them end (`stop`)."""
        self._script.stdin.write(f"{line}\n")
        self._script.stdin.flush()

    def outcomes(self) -> list[Counter[str]]:
        """Wait for the end of the clients; return for each query how it ended."""
        assert self._script.process.wait(PATIENCE * 4) == 0
        self._reader.join(PATIENCE)
        return self._outcomes

    def kill(self) -> None:
        """Kill the process, whatever its clients do."""
        self._script.process.kill()
        self._reader.join(PATIENCE)
        self._script.close()


def restart_behind_front_end(
    folder: Path, python: Callable[[str], Path], crowd: Sequence[tuple[str, int]], *, seconds: float = 0.0
) -> Result:
    """Have clients use a proxy behind nginx, and restart it on its socket while jobs run and clients wait.

    They go on until each has received a product on average after the restart, and at least for `seconds` in all.
    """
    size = sum(count for _, count in crowd)
    began = time.monotonic()
    with ExitStack() as stack:
        mock = stack.enter_context(
            running(folder / "mock.log", "mock", "--port", "0", "--time-scale", "1", "--synthetic")
        )
        sockets = stack.enter_context(listening_sockets(WORKERS))
        serve = ["serve", "--upstream", mock.url, "--cache-dir", str(folder / "cache"), "--workers", str(WORKERS)]
        serve += ["--trusted-proxy", "127.0.0.1"]
        first = stack.enter_context(running_on(sockets, folder / "first.log", *serve))
        site = stack.enter_context(front_end(folder / "nginx", first.url))
        users = []
        for number, (version, count) in enumerate(crowd):
            one = Users(python(version), folder, site.url, count, number * 5, authority=site.authority)
            stack.callback(one.kill)
            users.append(one)

        def products() -> int:
            return sum(one.products for one in users)

        wait_until(lambda: products() >= size)
        while time.monotonic() - began < seconds / 2:
            time.sleep(1)  # how long the clients use it is the point
        for one in users:
            one.send("later")
        jobs = [0]

        def are_running() -> bool:
            jobs.append(len(page(first, "jobs")["jobs"]))
            return jobs[-1] > 0

        wait_until(are_running)
        first.end()
        before = products()
        stack.enter_context(running_on(sockets, folder / "second.log", *serve))
        wait_until(lambda: products() >= before + size)
        while time.monotonic() - began < seconds:
            time.sleep(1)  # as above
        for one in users:
            one.send("stop")
        outcomes: list[Counter[str]] = [
            sum(each, Counter()) for each in zip(*(one.outcomes() for one in users), strict=True)
        ]
        alone = stack.enter_context(
            running(folder / "alone.log", "mock", "--port", "0", "--time-scale", "0", "--synthetic")
        )
        direct = Users(python(crowd[0][0]), folder, alone.url, 1, 0, authority=None, once=True)
        stack.callback(direct.kill)
        expected = [next(iter(outcome)) for outcome in direct.outcomes()]
        return Result(outcomes, expected, jobs[-1], products() - before, site.access_log.read_text())
