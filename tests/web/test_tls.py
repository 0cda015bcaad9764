"""A server with a certificate of its own speaks TLS; files that cannot be used are named in one line."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from typing import TYPE_CHECKING

import aiohttp
import pytest
import trustme
from aiohttp import web
from yarl import URL

from oda_proxy.config.options import SERVE
from oda_proxy.config.settings import ServeOptions
from oda_proxy.config.sources import resolve_options
from oda_proxy.errors import UsageError
from oda_proxy.web.reloading import Reloads
from oda_proxy.web.server import listening
from oda_proxy.web.tls import context_of, server_context

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a certificate for localhost, its key, both in one file, and the key of another."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    mine, other = authority.issue_cert("localhost", "127.0.0.1"), authority.issue_cert("other.example")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    mine.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    mine.private_key_pem.write_to_path(folder / "key.pem")
    mine.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    other.private_key_pem.write_to_path(folder / "other.pem")
    (folder / "damaged.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (folder / "text.pem").write_text("no certificate\n")
    return folder


@pytest.mark.parametrize(("certificate", "key"), [("cert.pem", "key.pem"), ("both.pem", None)])
async def test_a_client_that_trusts_the_authority_gets_answers(files: Path, certificate: str, key: str | None) -> None:
    async def scheme(request: web.Request) -> web.Response:
        return web.Response(text=request.scheme)

    app = web.Application()
    app.router.add_get("/", scheme)
    context = server_context(files / certificate, files / key if key else None)
    trusting = ssl.create_default_context(cafile=files / "authority.pem")
    async with listening(app, "127.0.0.1", 0, tls=context) as url, aiohttp.ClientSession() as session:
        assert url.startswith("https://127.0.0.1:")
        async with session.get(url, ssl=trusting) as response:
            assert await response.text() == "https"


@pytest.mark.parametrize(
    ("certificate", "key", "message"),
    [
        ("cert.pem", "other.pem", "the key is not that of the certificate"),
        ("missing.pem", "key.pem", r"missing\.pem \(--tls-cert\): No such file"),
        ("cert.pem", "missing.pem", r"missing\.pem \(--tls-key\): No such file"),
        ("cert.pem", ".", r"\(--tls-key\): Is a directory"),
        ("cert.pem", None, "name the key with --tls-key"),
        ("text.pem", "key.pem", "for TLS: "),
        ("damaged.pem", "key.pem", "damaged"),
        ("cert.pem", "encrypted.pem", "remove its passphrase"),
    ],
)
def test_files_that_cannot_be_used_are_named(files: Path, certificate: str, key: str | None, message: str) -> None:
    if key == "encrypted.pem" and not (files / key).exists():
        paths = ["-in", str(files / "key.pem"), "-out", str(files / key)]
        subprocess.run(["openssl", "pkey", *paths, "-aes256", "-passout", "pass:secret"], check=True)  # noqa: S607 - of the system

    with pytest.raises(UsageError, match=message) as caught:
        server_context(files / certificate, files / key if key else None)

    assert "\n" not in str(caught.value)


async def served(url: str) -> bytes:
    """Return the certificate that a server presents (DER)."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _, writer = await asyncio.open_connection(URL(url).host, URL(url).port, ssl=context)
    try:
        certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return certificate
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_renewed_certificate_is_served_after_the_options_were_read_again(
    files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes((files / "cert.pem").read_bytes())
    key.write_bytes((files / "key.pem").read_bytes())
    (tmp_path / "empty.toml").touch()
    flags = {"tls-cert": str(certificate), "tls-key": str(key)}
    values = resolve_options(SERVE, flags, {}, tmp_path / "empty.toml", warn=pytest.fail)
    options = ServeOptions(**{name.replace("-", "_"): value for name, value in values.items()})
    reloads = Reloads(options, lambda: options)
    renewed = trustme.CA().issue_cert("localhost", "127.0.0.1")

    async with listening(web.Application(), "127.0.0.1", 0, tls=context_of(options, reloads)) as url:
        before = await served(url)
        key.write_text("no key\n")
        reloads.reload()
        assert await served(url) == before
        assert "the certificate stays as it was: cannot use" in caplog.text
        renewed.cert_chain_pems[0].write_to_path(certificate)
        renewed.private_key_pem.write_to_path(key)
        reloads.reload()
        assert await served(url) == ssl.PEM_cert_to_DER_cert(certificate.read_text())
