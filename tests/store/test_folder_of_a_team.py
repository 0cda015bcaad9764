"""A team's folder of recordings survives a full disk, a read-only restart, an import by root and a rollback."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import urllib.request
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import pytest

from oda_proxy.cli import main
from oda_proxy.config.folders import cache_folder
from oda_proxy.store.disk import DiskStore
from tests.support.dispatcher_responses import SESSION, answer, json_bytes
from tests.support.permissions import NOBODY
from tests.support.servers import running
from tests.support.small_disks import small_disk
from tests.support.stores import index_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system, and change owners"),
    pytest.mark.slow,  # starts five servers
]

QUERY = f"instrument=isgri&product_type=isgri_image&query_type=Real&api=True&query_status=new&session_id={SESSION}"
FIXTURES = Path(__file__).parents[2] / "fixtures"


class Dispatcher(BaseHTTPRequestHandler):
    """A dispatcher whose answers have 200 kB that compress badly."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path != "/run_analysis":
            return self.send_error(404)
        echo = {**answer()["products"]["analysis_parameters"], **dict(parse_qsl(parts.query))}
        products = {"catalog": {"large": os.urandom(100_000).hex()}, "analysis_parameters": echo}
        body = json_bytes(answer(products=products))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dispatcher)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def remount(folder: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", folder], check=True)  # noqa: S607


def status_of(url: str, ra: int) -> str:
    """Send a query and return its Cache-Status, without the name of the proxy."""
    with urllib.request.urlopen(f"{url}/run_analysis?{QUERY}&RA={ra}") as response:  # noqa: S310 - of our own proxy
        assert json.load(response)["query_status"] == "done"
        return str(response.headers["Cache-Status"]).removeprefix("oda-proxy; ")


STORED = "fwd=uri-miss; fwd-status=200; stored"


def test_a_folder_of_a_team(upstream: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    team, log = tmp_path / "team", tmp_path / "log"
    folder = cache_folder(team, upstream)
    where = ["--upstream", upstream, "--cache-dir", str(team)]
    serve = ["serve", *where, "--port", "0", "--min-free", "0"]
    with small_disk(team, "4m"):
        # a full disk
        with running(log, *serve) as proxy:
            assert [status_of(proxy.url, ra) for ra in (1, 1)] == [STORED, "hit"]
            with suppress(OSError), (team / "other").open("wb", buffering=0) as other:
                while other.write(b"x" * 512):
                    pass
            assert status_of(proxy.url, 2).endswith("detail=store-failed")
            assert status_of(proxy.url, 1) == "hit"
            (team / "other").unlink()
            assert [status_of(proxy.url, ra) for ra in (2, 2)] == [STORED, "hit"]
            assert "No space left on device" in proxy.end() or "full" in log.read_text()

        # a restart of a read-only copy
        remount(team, "ro")
        for more in ([], ["--offline"]):
            with running(log, *serve, *more) as proxy:
                assert [status_of(proxy.url, ra) for ra in (1, 2)] == ["hit", "hit"]
        assert main(["ls", *where]) == 0
        assert main(["verify", *where]) == 0
        assert "2 sound recordings" in capsys.readouterr().out
        remount(team, "rw")

        # root imports fixtures
        for path in (team, *team.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        assert main(["import", str(FIXTURES), *where]) == 0
        assert {path.stat().st_uid for path in team.rglob("*")} == {NOBODY}

        # the release after this one ran for a while, and stored a recording in its format
        with closing(DiskStore(folder)) as store:
            (key,) = (e.key for e in store.entries() if e.query and ("RA", ("1",)) in e.query.parameters)
            index = index_of(store)
            theirs = index.get(key).replace('"format":2', '"format":99')
            index.set(key, theirs)
        with running(log, *serve) as proxy:
            assert [status_of(proxy.url, ra) for ra in (1, 1, 2)] == [STORED, "hit", "hit"]
        assert main(["verify", "--fix", *where]) == 0
        assert "1 recording of another release (format 99" in capsys.readouterr().err
        with closing(DiskStore(folder)) as store:
            assert index_of(store).get(key) == theirs
