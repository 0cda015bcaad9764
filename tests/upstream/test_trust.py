"""Certificates are trusted as the environment says, and what is not trusted is said."""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING

import certifi
import pytest
import trustme
from yarl import URL

from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.http.message import Request
from oda_proxy.upstream.any_server import AnyServer, ServerUnreachableError
from oda_proxy.upstream.dispatcher import Dispatcher
from oda_proxy.upstream.trust import _warn, is_untrusted, trusted_bundle, trusting_context
from tests.support.http_server import http_server
from tests.support.internet import Page, internet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.http_server import ScriptedServer

VARIABLES = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR"]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tmp_path / "certificates" / "ours.pem"


@pytest.fixture
def server(bundle: Path) -> Iterator[ScriptedServer]:
    """Run a server whose authority is in the bundle."""
    ca = trustme.CA()
    bundle.parent.mkdir()
    ca.cert_pem.write_to_path(bundle)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    with http_server(lambda _: Page(b"a page"), context=context) as server:
        yield server


@pytest.mark.parametrize("variable", VARIABLES[:3])
async def test_what_a_variable_of_the_environment_trusts_is_trusted(
    server: ScriptedServer, bundle: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(bundle))

    async with Dispatcher(server.url) as dispatcher, AnyServer(use_env_proxies=False) as others:
        for reply in (
            await dispatcher.send(Request("GET", "/x")),
            await others.send(server.url, Request("GET", "/x")),
        ):
            assert b"".join([chunk async for chunk in reply.body]) == b"a page"


async def test_a_certificate_that_is_not_trusted_is_named_as_such(server: ScriptedServer) -> None:
    async with Dispatcher(server.url) as dispatcher, AnyServer(use_env_proxies=False) as others:
        with pytest.raises(UpstreamUnreachableError, match="its certificate is not trusted"):
            await dispatcher.send(Request("GET", "/x"))
        with pytest.raises(ServerUnreachableError, match="its certificate is not trusted"):
            await others.send(server.url, Request("GET", "/x"))


async def test_a_server_without_tls_is_named_as_such() -> None:
    with http_server(lambda _: Page(b"a page")) as plain:
        async with Dispatcher(plain.url.replace("http:", "https:")) as dispatcher:
            with pytest.raises(UpstreamUnreachableError, match=r"no TLS connection .*: it may only speak http"):
                await dispatcher.send(Request("GET", "/x"))


async def test_a_server_that_is_not_trusted_is_told_from_one_that_is(server: ScriptedServer, bundle: Path) -> None:
    url = URL(server.url)

    for environ, untrusted in (({}, True), ({"CURL_CA_BUNDLE": str(bundle)}, False)):
        context = trusting_context(environ)
        assert await is_untrusted(url.host or "", url.port or 0, context, proxy=None) == untrusted


@pytest.mark.parametrize("variable", VARIABLES)
def test_certificates_are_read_again_only_when_a_file_of_them_changes(tmp_path: Path, variable: str) -> None:
    file = tmp_path / "ours.pem"
    trustme.CA().cert_pem.write_to_path(file)
    environ = {variable: str(tmp_path if variable == "SSL_CERT_DIR" else file)}
    before = trusting_context(environ)
    same = trusting_context(environ)

    other = trustme.CA().cert_pem.bytes()
    file.write_bytes(file.read_bytes() + other)
    after = trusting_context(environ)

    assert before is same is not after
    assert after.cert_store_stats()["x509"] == before.cert_store_stats()["x509"] + 1
    assert trusting_context({}) is not after


async def test_a_server_that_is_not_there_is_not_untrusted() -> None:
    assert not await is_untrusted("127.0.0.1", 1, trusting_context({}), proxy=None)


async def test_certificates_are_seen_through_a_proxy_of_the_environment() -> None:
    with internet({"https://example.org/": Page(b"a page")}) as net:
        proxy = URL(net.url)

        assert await is_untrusted("example.org", 443, trusting_context({}), proxy=proxy)
        assert not await is_untrusted("example.org", 443, trusting_context(net.environment), proxy=proxy)
        assert not await is_untrusted("nobody.example", 443, trusting_context({}), proxy=proxy)
    assert net.connections == ["example.org:443", "example.org:443", "nobody.example:443"]


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_bundle_has_what_variables_name_and_the_system_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    folder = tmp_path / "certificates"
    folder.mkdir()
    ours, systems = trustme.CA().cert_pem.bytes(), trustme.CA().cert_pem.bytes()
    (folder / "ours.pem").write_bytes(ours.rstrip())
    (tmp_path / "system.pem").write_bytes(systems)
    monkeypatch.setattr("oda_proxy.upstream.trust._SYSTEM_BUNDLES", (str(tmp_path / "system.pem"),))
    set_default_paths(monkeypatch, tmp_path / "none", tmp_path / "none")

    named = folder if variable == "SSL_CERT_DIR" else folder / "ours.pem"

    assert trusted_bundle({variable: str(named)}) == ours.rstrip() + b"\n" + systems


def set_default_paths(monkeypatch: pytest.MonkeyPatch, bundle: Path, folder: Path) -> None:
    """Replace the places in which OpenSSL looks for the certificates of the system."""
    paths = ssl.get_default_verify_paths()._replace(openssl_cafile=str(bundle), openssl_capath=str(folder))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)


@pytest.fixture
def no_system_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the certificates of the system; a context made as by default has none, either."""
    monkeypatch.setattr("oda_proxy.upstream.trust._SYSTEM_BUNDLES", ())
    set_default_paths(monkeypatch, tmp_path / "none", tmp_path / "none")
    monkeypatch.setattr(ssl, "create_default_context", lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    _warn.cache_clear()


@pytest.mark.usefixtures("no_system_certificates")
def test_without_certificates_of_the_system_those_of_certifi_are_trusted_and_it_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    context = trusting_context({})

    assert len(context.get_ca_certs()) == certifi.contents().count("BEGIN CERTIFICATE") > 50
    assert trusted_bundle({}) == certifi.contents().encode()
    assert caplog.text.count("this system has no certificates of authorities: those of the package certifi") == 1


@pytest.mark.usefixtures("no_system_certificates")
def test_certifi_is_not_trusted_where_a_variable_names_certificates(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ours.pem")
    named = {"REQUESTS_CA_BUNDLE": str(tmp_path / "ours.pem")}

    assert len(trusting_context(named).get_ca_certs()) == 1
    assert trusted_bundle(named) == (tmp_path / "ours.pem").read_bytes()
    assert trusted_bundle({"SSL_CERT_FILE": str(tmp_path / "nosuch.pem")}) == b""
    assert "package certifi" not in caplog.text


@pytest.mark.usefixtures("no_system_certificates")
def test_a_folder_of_certificates_of_the_system_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "certs").mkdir()
    trustme.CA().cert_pem.write_to_path(tmp_path / "certs" / "one.pem")
    set_default_paths(monkeypatch, tmp_path / "none", tmp_path / "certs")

    assert trusted_bundle({}) == (tmp_path / "certs" / "one.pem").read_bytes()


@pytest.mark.parametrize("content", [None, b"none"])
def test_a_file_without_certificates_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    caplog.set_level(logging.WARNING)
    if content is not None:
        (tmp_path / "x.pem").write_bytes(content)

    for _ in range(2):
        trusted_bundle({"REQUESTS_CA_BUNDLE": str(tmp_path / "x.pem")})

    assert caplog.text.count(f"there are no certificates in {tmp_path}") == 1
