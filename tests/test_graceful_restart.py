"""Clients of a server that is restarted on a socket that stays open notice nothing."""

from __future__ import annotations

import threading
import urllib.request
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.servers import PATIENCE, running
from tests.support.socket_activation import listening_sockets, running_on

if TYPE_CHECKING:
    from pathlib import Path

CLIENTS = 8
AROUND = 20
"""Requests of each client before and after the restart."""
QUERY = (
    "instrument=isgri&product_type=isgri_image&query_type=Real&api=True&query_status=new&osa_version=OSA10.2&"
    "scw_list=010200230010.001&session_id=K7Q2ZP9X4M1TB6W"
)


class Client(threading.Thread):
    """Sends one request after the other on new connections, by turns with GET and POST, until it is stopped."""

    def __init__(self, url: str, number: int) -> None:
        super().__init__(daemon=True)
        self.query = f"{QUERY}{number}"
        self.url = url
        self.outcomes: Counter[str] = Counter()
        self.progress = threading.Condition()
        self.is_stopped = False

    def run(self) -> None:
        paths = [(f"/run_analysis?{self.query}", None), ("/run_analysis", self.query.encode()), ("/-/status", None)]
        while not self.is_stopped:
            path, body = paths[self.outcomes.total() % len(paths)]
            try:
                with urllib.request.urlopen(f"{self.url}{path}", body, timeout=PATIENCE) as response:  # noqa: S310 - on this machine
                    response.read()
                    outcome = str(response.status)
            except OSError as error:
                outcome = f"{path.partition('?')[0]} {error}"
            with self.progress:
                self.outcomes[outcome] += 1
                self.progress.notify_all()

    def wait_for(self, more: int) -> None:
        """Wait until this many further requests have been answered."""
        with self.progress:
            target = self.outcomes.total() + more
            assert self.progress.wait_for(lambda: self.outcomes.total() >= target, PATIENCE)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "sockets"), [(1, 1), (2, 2), (2, 1)])
def test_no_request_is_lost_in_a_restart(tmp_path: Path, workers: int, sockets: int) -> None:
    with ExitStack() as stack:
        mock = stack.enter_context(
            running(tmp_path / "mock.log", "mock", "--port", "0", "--time-scale", "0", "--synthetic")
        )
        listeners = stack.enter_context(listening_sockets(sockets))
        serve = ["serve", "--upstream", mock.url, "--cache-dir", str(tmp_path / "cache"), "--workers", str(workers)]
        first = stack.enter_context(running_on(listeners, tmp_path / "first.log", *serve))
        clients = [Client(first.url, number) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.wait_for(AROUND)
        first.end()
        second = stack.enter_context(running_on(listeners, tmp_path / "second.log", *serve))
        assert second.url == first.url
        for client in clients:
            client.wait_for(AROUND)
        for client in clients:
            client.is_stopped = True
        for client in clients:
            client.join(PATIENCE)

        outcomes: Counter[str] = sum((client.outcomes for client in clients), Counter())
        assert set(outcomes) == {"200"}, outcomes
