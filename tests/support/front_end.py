"""The nginx site of deploy/, with the addresses and certificates of a test."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
import urllib.parse
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trustme

from tests.support.paths import CHECKOUT
from tests.support.servers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SITE = CHECKOUT / "deploy/nginx/oda-proxy.conf"
PREFIX = "/oda"
_MAIN = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/main.log;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@dataclass(frozen=True)
class FrontEnd:
    """A running nginx: its public URL, with the prefix, the certificate of its authority, and its log of requests."""

    url: str
    authority: Path
    access_log: Path
    error_log: Path


def nginx() -> str:
    """Return the path of nginx; skip the test where it is not installed."""
    path = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.skip("needs nginx, which is not installed")
    return path


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def prepare(folder: Path, upstreams: Sequence[str], port: int, plain_port: int) -> Path:
    """Write the site for upstreams and ports of 127.0.0.1, with a certificate, and return the configuration."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    certificate.private_key_pem.write_to_path(folder / "privkey.pem")
    for number, pem in enumerate(certificate.cert_chain_pems):
        pem.write_to_path(folder / "fullchain.pem", append=number > 0)
    site = SITE.read_text()
    servers = [f"server {urllib.parse.urlsplit(upstream).netloc} max_fails=0;\n" for upstream in upstreams]
    for pattern, replacement in (
        (r"listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2;"),
        (r"listen 80;", f"listen 127.0.0.1:{plain_port};"),
        (r" *listen \[::\]:(443 ssl http2|80);\n", ""),
        (r"server_name oda\.example\.org;", "server_name localhost;"),
        (r"/etc/letsencrypt/live/oda\.example\.org/", f"{folder}/"),
        (r"/var/log/nginx/", f"{folder}/"),
        (r"server 127\.0\.0\.1:8400 max_fails=0;\n", servers[0])
        if len(servers) == 1
        else (r"(?: *server 127\.0\.0\.1:8400 max_fails=0;\n){2}", "".join(servers)),
    ):
        site, count = re.subn(pattern, replacement, site)
        assert count, pattern
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder))
    return folder / "nginx.conf"


@contextmanager
def front_end(folder: Path, *upstreams: str) -> Iterator[FrontEnd]:
    """Run nginx with the site before one or several upstreams until the block ends."""
    program, port = nginx(), free_port()
    folder.mkdir()
    configuration = prepare(folder, upstreams, port, free_port())
    command = [program, "-e", str(folder / "start.log"), "-p", str(folder), "-c", str(configuration)]
    with subprocess.Popen(command) as process:
        try:
            _wait_for(port, process, folder)
            yield FrontEnd(
                f"https://localhost:{port}{PREFIX}",
                folder / "authority.pem",
                folder / "oda-proxy.log",
                folder / "oda-proxy.error.log",
            )
        finally:
            process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait until nginx listens."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port)):
                return
        except OSError:
            assert process.poll() is None, (folder / "start.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)  # the state of another program can only be polled
