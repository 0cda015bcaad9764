"""Only programs of the run trust its authority, and nothing of it remains."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from oda_proxy.run.authority import HostNameError, temporary_authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oda_proxy.run.authority import Authority

YEAR_2001 = 1e9


@pytest.fixture
def authority() -> Iterator[Authority]:
    with temporary_authority() as authority:
        yield authority


def agree(server: ssl.SSLContext, bundle: Path, name: str) -> None:
    """Run a TLS handshake in memory; raises the error of a client as strict as those of Python 3.13."""
    client = ssl.create_default_context(cafile=bundle)
    client.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(down, up, server_hostname=name)
    there = server.wrap_bio(up, down, server_side=True)
    finished = []
    for side in (here, there, here, there):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        finished.append(side)
    assert finished == [here, there]


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("www.astro.unige.ch", "www.astro.unige.ch"),
        ("WWW.Astro.Unige.CH", "www.astro.unige.ch"),
        ("example.org.", "example.org"),
        ("localhost", "localhost"),
        ("xn--caf-dma.example.org", "xn--caf-dma.example.org"),
        ("10.1.2.3", "10.1.2.3"),
        ("::1", "::1"),
        ("2001:db8::17", "2001:db8::17"),
    ],
)
def test_a_program_that_trusts_the_bundle_trusts_the_host(authority: Authority, host: str, name: str) -> None:
    agree(authority.context_for(host), authority.bundle, name)


def test_a_certificate_is_for_its_host_alone(authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
        agree(authority.context_for("example.org"), authority.bundle, "www.example.org")


def test_an_authority_is_for_its_run_alone(authority: Authority) -> None:
    with temporary_authority() as other, pytest.raises(ssl.SSLCertVerificationError):
        agree(authority.context_for("example.org"), other.bundle, "example.org")


def test_a_certificate_expires() -> None:
    with (
        temporary_authority(clock=lambda: YEAR_2001) as authority,
        pytest.raises(ssl.SSLCertVerificationError, match="expired"),
    ):
        agree(authority.context_for("example.org"), authority.bundle, "example.org")


@pytest.mark.parametrize("host", ["", "a..b", "under_score.org", "x" * 64, "10.0.0.0/8", "jane@example.org", "*.org"])
def test_there_is_no_certificate_for_what_is_not_a_host(authority: Authority, host: str) -> None:
    with pytest.raises(HostNameError, match="there is no certificate for"):
        authority.context_for(host)


def test_a_limited_number_of_certificates_is_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oda_proxy.run.authority.MAX_HOSTS", 1)
    with temporary_authority() as authority:
        first = authority.context_for("example.org")

        assert authority.context_for("EXAMPLE.org") is first
        authority.context_for("example.net")
        assert authority.context_for("example.org") is not first


def test_the_bundle_is_in_a_private_folder_until_the_end() -> None:
    with temporary_authority() as authority:
        folder = authority.bundle.parent
        authority.context_for("example.org")

        assert {path for path in folder.rglob("*") if path.is_file()} == {
            authority.bundle,
            authority.python_path / "certifi.py",
        }
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_no_key_is_ever_written_to_a_file() -> None:
    script = """
import os, sys, tempfile
from oda_proxy.run.authority import temporary_authority
tempfile.gettempdir()  # it tries the folder out, once
written = set()
def see(event, arguments):
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR) and not isinstance(arguments[0], int):
        written.add(os.path.basename(arguments[0]))
sys.addaudithook(see)
with temporary_authority() as authority:
    authority.context_for("example.org")
print(sorted(written))
"""
    command = [sys.executable, "-B", "-c", script]

    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout == "['certifi.py', 'trusted.pem']\n"
    )


def test_a_run_that_is_killed_leaves_no_key_behind(tmp_path: Path) -> None:
    script = """
import os, signal
from oda_proxy.run.authority import temporary_authority
with temporary_authority() as authority:
    authority.context_for("example.org")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", script], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)

    assert killed.returncode == -signal.SIGKILL
    left = {path.name: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert left.keys() == {"trusted.pem", "certifi.py"}
    assert "PRIVATE" not in "".join(left.values())


def test_a_python_program_gets_the_authority_of_the_run_from_certifi(tmp_path: Path) -> None:
    script = (
        "import certifi, ssl; ssl.create_default_context(cafile=certifi.where()); print(certifi.contents(), end='')"
    )
    with temporary_authority() as authority:
        env = {**os.environ, "SSL_CERT_FILE": str(authority.bundle), "PYTHONPATH": str(authority.python_path)}
        result = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)

        assert result.stdout == authority.bundle.read_text()
    assert not authority.python_path.exists()
