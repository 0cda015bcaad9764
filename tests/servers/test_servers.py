"""Servers with certificates, public addresses and several workers, as the command line starts them."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import trustme

from oda_proxy.config.options import SERVE
from oda_proxy.config.settings import ServeOptions
from oda_proxy.config.sources import resolve_options
from oda_proxy.servers import one_process
from oda_proxy.servers.start_messages import hosts_of, log_start
from tests.support.crowds import wait_until
from tests.support.servers import PATIENCE, running
from tests.support.worker_servers import MANY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from oda_proxy.servers.parts import Parts
    from tests.support.servers import Server

HEADERS = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "example.org"}
ISGRI = "instrument=isgri&product_type=isgri_image&query_type=Real&api=True&query_status=new&osa_version=OSA10.2"
QUERY = f"{ISGRI}&scw_list=010200230010.001&session_id=K7Q2ZP9X4M1TB6WD"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a certificate for 127.0.0.1, its key and its authority."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    return folder


def test_a_server_starts_without_numpy_and_astropy(tmp_path: Path) -> None:
    """They would take half of the time of its start."""
    serve = ("serve", "--mock", "--port", "0", "--cache-dir", str(tmp_path / "cache"))
    with running(tmp_path / "log", *serve, program=("-X", "importtime", "-m", "oda_proxy.cli")) as server:
        log = server.end()

    imported = {line.rpartition("|")[2].strip() for line in log.splitlines() if line.startswith("import time:")}
    assert "oda_proxy.proxy" in imported
    assert not {"numpy", "astropy"} & imported


def fetch(server: Server, path: str, authority: Path | None = None, **headers: str) -> dict[str, Any]:
    request = urllib.request.Request(f"{server.url}{path}", headers=headers)  # noqa: S310 - on this machine
    context = ssl.create_default_context(cafile=authority) if authority else None
    with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as response:  # noqa: S310 - as above
        found: dict[str, Any] = json.load(response)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_with_a_certificate_speaks_tls_and_reads_the_headers_of_its_front_end(
    tmp_path: Path, certificates: Path, workers: str
) -> None:
    tls = ["--tls-cert", str(certificates / "cert.pem"), "--tls-key", str(certificates / "key.pem")]
    with (
        running(tmp_path / "mock.log", "mock", "--port", "0", "--time-scale", "0", "--synthetic") as mock,
        running(
            tmp_path / "proxy.log",
            *("serve", "--upstream", mock.url, "--port", "0", "--cache-dir", str(tmp_path / "cache")),
            *("--workers", workers, "--trusted-proxy", "127.0.0.1", *tls),
        ) as proxy,
    ):
        assert proxy.url.startswith("https://127.0.0.1:")
        authority = certificates / "authority.pem"
        fetch(proxy, f"/run_analysis?{QUERY}", authority)
        for _ in range(8 if workers == "2" else 1):  # either worker
            hit = fetch(proxy, f"/mmoda/run_analysis?{QUERY}", authority, **HEADERS)
            assert "https://example.org/mmoda'" in hit["products"]["api_code"]
        assert fetch(proxy, "/-/status", authority)["run_analysis"]["hits"] > 0
    assert "without encryption" not in (tmp_path / "proxy.log").read_text()


@pytest.mark.slow
def test_all_workers_serve_a_renewed_certificate_after_sighup(tmp_path: Path) -> None:
    def renew() -> Path:
        """Write another certificate, and return the file of its authority."""
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "new.pem")
        (tmp_path / "new.pem").replace(tmp_path / "both.pem")
        authority.cert_pem.write_to_path(tmp_path / "authority.pem")
        return tmp_path / "authority.pem"

    def is_trusted(server: Server, authority: Path) -> bool:
        context = ssl.create_default_context(cafile=authority)
        try:
            with urllib.request.urlopen(f"{server.url}/-/livez", timeout=PATIENCE, context=context):  # noqa: S310 - on this machine
                return True
        except urllib.error.URLError:
            return False

    first = renew()
    serve = ["serve", "--port", "0", "--cache-dir", str(tmp_path / "cache"), "--workers", "2"]
    with (
        running(tmp_path / "mock.log", "mock", "--port", "0") as mock,
        running(
            tmp_path / "proxy.log", *serve, "--upstream", mock.url, "--tls-cert", str(tmp_path / "both.pem")
        ) as proxy,
    ):
        assert all(is_trusted(proxy, first) for _ in range(MANY))
        second = renew()
        proxy.process.send_signal(signal.SIGHUP)
        wait_until(lambda: all(is_trusted(proxy, second) for _ in range(MANY)))


@pytest.mark.parametrize("arguments", [["--tls-key", "key.pem"], ["--tls-cert", "missing.pem"]])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_files_for_tls_that_cannot_be_used_are_an_error_of_one_line(
    tmp_path: Path, arguments: list[str], workers: str
) -> None:
    command = [sys.executable, "-m", "oda_proxy.cli", "serve", "--mock", "--workers", workers, *arguments]
    if workers == "2":
        command.remove("--mock")
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "--tls-cert" in result.stderr


@pytest.mark.parametrize(("host", "warnings"), [("0.0.0.0", 1), ("127.0.0.1", 0)])  # noqa: S104 - nothing listens
def test_a_server_that_is_exposed_says_so_at_the_start(
    caplog: pytest.LogCaptureFixture, host: str, warnings: int
) -> None:
    values = resolve_options(SERVE, {"host": host}, {}, None, warn=pytest.fail)
    options = ServeOptions(**{name.replace("-", "_"): value for name, value in values.items()})

    async def start() -> None:
        log_start(options, [], hosts_of(options, ()))

    with caplog.at_level(logging.WARNING):
        asyncio.run(start())
    assert len(caplog.messages) == warnings


def test_the_start_names_the_store_that_servers_share_without_its_password(caplog: pytest.LogCaptureFixture) -> None:
    values = resolve_options(
        SERVE, {"store": "redis://:secret@redis.example/0?bodies=file:///heads"}, {}, None, warn=pytest.fail
    )
    options = ServeOptions(**{name.replace("-", "_"): value for name, value in values.items()})
    parts = cast("Parts", SimpleNamespace(options=options, folder=None, store=None))

    async def start() -> None:
        log_start(options, [parts], ["127.0.0.1"])

    with caplog.at_level(logging.INFO):
        asyncio.run(start())
    assert caplog.messages[-1].endswith("; recordings in redis://redis.example:6379/0?bodies=file:///heads")


async def test_the_collector_leaves_alone_what_is_there_when_a_server_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    stop = asyncio.Event()
    stop.set()

    @asynccontextmanager
    async def proxy_listening(*_: Any, **__: Any) -> AsyncIterator[str]:
        steps.append("listening")
        yield "http://127.0.0.1:1"

    monkeypatch.setattr(one_process, "proxy_listening", proxy_listening)
    monkeypatch.setattr(one_process, "stop_event", lambda _: stop)
    monkeypatch.setattr(gc, "collect", lambda: steps.append("collected"))
    monkeypatch.setattr(gc, "freeze", lambda: steps.append("frozen"))
    monkeypatch.setattr(one_process, "print_line", steps.append)

    values = resolve_options(SERVE, {}, {}, None, warn=pytest.fail)
    options = ServeOptions(**{name.replace("-", "_"): value for name, value in values.items()})
    await one_process.serve(options, lambda: options)

    assert steps == ["listening", "collected", "frozen", "listening on http://127.0.0.1:1"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_drains_goes_on_until_a_second_signal(tmp_path: Path, workers: int) -> None:
    serve = ("serve", "--offline", "--cache-dir", str(tmp_path / "cache"), "--port", "0", "--drain", "3600")
    with running(tmp_path / "log", *serve, "--workers", str(workers)) as server:
        assert _status(server, "/-/readyz") == 200
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: _status(server, "/-/readyz") == 503)
        assert _status(server, "/-/livez") == 200
        assert _status(server, "/-/metrics") == 200
        server.end()


def _status(server: Server, path: str) -> int:
    try:
        with urllib.request.urlopen(f"{server.url}{path}", timeout=PATIENCE) as response:  # noqa: S310 - on this machine
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
