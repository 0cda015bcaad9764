"""The certificates that the environment trusts: those of its variables and of the system, or else of certifi."""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import certifi

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from yarl import URL

_log = logging.getLogger(__name__)

VARIABLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR")
"""Variables that name a file of certificates, or a folder of such files."""

MAX_BUNDLE: Final = 32 * 1024 * 1024
"""Bytes of a file of certificates."""
PROBE_TIMEOUT: Final = 10.0
"""Seconds to learn whether a server's certificate is trusted."""
MAX_RESPONSE: Final = 64 * 1024
"""Bytes of a proxy's response to CONNECT."""

_SYSTEM_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # macOS
)
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"


def trusting_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Return the TLS context of a client that trusts what the environment trusts.

    It is the same object until a file of certificates changes: reading hundreds of certificates takes 0.1 s.
    """
    named, system = tuple(dict.fromkeys(_named(environ))), ssl.get_default_verify_paths()
    places = [*named, *(Path(place) for place in (system.cafile, system.capath) if place)]
    return _context(named, system, frozenset(change for place in places for change in _changes(place)))


@lru_cache(maxsize=4)
def _context(
    named: tuple[Path, ...],
    system: ssl.DefaultVerifyPaths,  # noqa: ARG001 - what the context depends on, too
    changes: frozenset[object],  # noqa: ARG001
) -> ssl.SSLContext:
    """Return a new context."""
    context = ssl.create_default_context()  # reads SSL_CERT_FILE and SSL_CERT_DIR
    for path in named:
        for content in _contents(path):
            try:
                context.load_verify_locations(cadata=content.decode("ascii", "replace"))
            except (ssl.SSLError, ValueError) as error:
                _warn(f"ignoring the certificates in {path}: {error}")
    if not named and not _has_default():
        context.load_verify_locations(cadata=trusted_bundle({}).decode("ascii", "replace"))
    return context


def _changes(place: Path) -> Iterator[tuple[Path, int, int]]:
    """Yield each file in a folder, or a file, with the time of its last change in ns and its size in bytes."""
    with suppress(OSError):  # `_contents` names it
        for file in (place, *(place.iterdir() if place.is_dir() else ())):
            with suppress(OSError):
                status = file.stat()
                yield file, status.st_mtime_ns, status.st_size


def trusted_bundle(environ: Mapping[str, str]) -> bytes:
    """Return the certificates that the environment trusts, as PEM: those of its variables and of the system.

    Where the system has none and no variable names any, they are those of certifi.
    """
    contents = [*(content for path in _named(environ) for content in _contents(path)), *_system_contents()]
    if not contents and not any(_named(environ)):
        _warn(
            "this system has no certificates of authorities: those of the package certifi "
            f"({certifi.__version__}) are trusted; SSL_CERT_FILE names others"
        )
        contents = [certifi.contents().encode("ascii")]
    return b"".join(content.rstrip(b"\n") + b"\n" for content in dict.fromkeys(contents))


def _has_default() -> bool:
    """Return whether OpenSSL finds certificates by itself: in its file, or its folder, which it reads when needed."""
    paths = ssl.get_default_verify_paths()
    return Path(paths.openssl_cafile).is_file() or _is_filled(Path(paths.openssl_capath))


def _system_contents() -> list[bytes]:
    """Return the certificates of the system: its bundle, or else the files in its folder."""
    paths = ssl.get_default_verify_paths()
    bundles = map(Path, (paths.openssl_cafile, *_SYSTEM_BUNDLES))
    if bundle := next((path for path in bundles if path.is_file()), None):
        return _contents(bundle)
    return _contents(folder) if _is_filled(folder := Path(paths.openssl_capath)) else []


def _is_filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


@cache
def _warn(message: str) -> None:
    """Log a warning once, however many clients read the same certificates."""
    _log.warning("%s", message)


def _named(environ: Mapping[str, str]) -> Iterator[Path]:
    for variable in VARIABLES:
        if named := environ.get(variable):
            yield Path(named)


def _contents(path: Path) -> list[bytes]:
    """Read the certificates in a file or a folder; a warning where there are none."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        found = dict.fromkeys(
            content
            for file in files
            if file.is_file() and file.stat().st_size <= MAX_BUNDLE and _BEGIN in (content := file.read_bytes())
        )
    except OSError as error:
        _warn(f"cannot read the certificates in {path}: {error.strerror or error}")
        return []
    if not found:
        _warn(f"there are no certificates in {path}")
    return list(found)


async def is_untrusted(host: str, port: int, context: ssl.SSLContext, *, proxy: URL | None) -> bool:
    """Return whether a server presents a certificate that the context does not trust; False where it cannot be reached.

    `proxy` is the proxy of the environment, if any.
    """
    with suppress(OSError, TimeoutError, EOFError, asyncio.LimitOverrunError):
        async with asyncio.timeout(PROBE_TIMEOUT):
            reader, writer = await asyncio.open_connection(
                proxy.host if proxy else host,
                proxy.port if proxy else port,
                limit=MAX_RESPONSE,
                ssl=context if proxy and proxy.scheme == "https" else None,
            )
            try:
                if proxy:
                    await _connect(reader, writer, host, port, proxy)
                await writer.start_tls(context, server_hostname=host)
            except ssl.SSLCertVerificationError:
                return True
            finally:
                writer.transport.abort()
                with suppress(OSError):
                    await writer.wait_closed()
    return False


async def _connect(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int, proxy: URL
) -> None:
    """Ask a proxy for a tunnel. Raises ConnectionError."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
    if proxy.user is not None:
        login = base64.b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode("ascii")
        head += f"Proxy-Authorization: Basic {login}\r\n"
    writer.write(f"{head}\r\n".encode())
    await writer.drain()
    if b" 200" not in (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n", 1)[0]:
        raise ConnectionRefusedError("the proxy refused the tunnel")
