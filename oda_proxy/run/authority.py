"""The certificate authority of one run, which only the programs of the run trust.

Its private key is only in the memory of this process, and so are those of the certificates that it signs: OpenSSL
reads certificates and keys from files, and gets pipes instead. Only the public certificate of the authority is written
to disk; if this process is killed, nothing else is left behind.
"""

from __future__ import annotations

import os
import ssl
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import trustme

from oda_proxy.errors import OdaProxyError
from oda_proxy.files.temporary import TemporaryFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_HOSTS = 256
"""Hosts whose certificates are cached; another one costs a few ms."""

VALID = timedelta(days=30)
"""Validity of a certificate, and so the longest run; some programs refuse certificates of more than 398 days."""

_SKEW = timedelta(days=1)
_OURS = "oda-proxy"
_NO_HOST = frozenset("@*/")
"""Characters by which trustme recognises mail addresses, wildcards and networks."""


class HostNameError(OdaProxyError):
    """A name that no certificate can be made for."""

    http_status = 400
    detail = "host-name"

    def __init__(self, host: str) -> None:
        super().__init__(f"there is no certificate for {host!r}: it is not the name or address of a host")


_CERTIFI = '''"""Replaces certifi while a run is recorded or replayed."""

import os


def where():
    """Return the file of the authorities to trust."""
    return os.environ["SSL_CERT_FILE"]


def contents():
    """Return the authorities to trust."""
    with open(where(), encoding="ascii") as bundle:
        return bundle.read()
'''


class Authority:
    """Makes certificates for hosts; `bundle` is the file to trust.

    `python_path` is a folder with a module `certifi` that returns the bundle: astropy, for example, trusts the bundle
    of that package, whatever the environment says.
    """

    def __init__(self, bundle: Path, *, clock: Callable[[], float], trusted: bytes = b"") -> None:
        """Write the bundle: the certificate of the authority, and those that are `trusted` besides (PEM)."""
        self.bundle = bundle
        self.python_path = bundle.parent / "python"
        self.python_path.mkdir()
        (self.python_path / "certifi.py").write_text(_CERTIFI, encoding="utf-8")
        self._clock = clock
        self._ca = trustme.CA(organization_name=_OURS, organization_unit_name="authority of one run")
        self._untrusted_ca = trustme.CA(organization_name=_OURS, organization_unit_name="authority that nobody trusts")
        bundle.write_bytes(self._ca.cert_pem.bytes() + trusted)
        self._contexts = lru_cache(MAX_HOSTS)(self._make)

    def context_for(self, host: str) -> ssl.SSLContext:
        """Return the TLS context of a server for a host: a name, or an IP address without brackets.

        Raises HostNameError.
        """
        return self._contexts(host.casefold(), self._ca)

    def untrusted_context_for(self, host: str) -> ssl.SSLContext:
        """Return the same with a certificate that nobody trusts, for a host whose own certificate is not trusted.

        Raises HostNameError.
        """
        return self._contexts(host.casefold(), self._untrusted_ca)

    def _make(self, host: str, ca: trustme.CA) -> ssl.SSLContext:
        now = datetime.fromtimestamp(self._clock(), UTC)
        if set(host) & _NO_HOST:
            raise HostNameError(host)
        try:
            leaf = ca.issue_cert(
                host.removesuffix("."), organization_name=_OURS, not_before=now - _SKEW, not_after=now + VALID
            )
        except ValueError as error:  # also from the package idna
            raise HostNameError(host) from error
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
        with _pipe_with(chain) as certificate, _pipe_with(leaf.private_key_pem.bytes()) as key:
            context.load_cert_chain(certificate, key)
        return context


@contextmanager
def temporary_authority(*, clock: Callable[[], float] = time.time, trusted: bytes = b"") -> Iterator[Authority]:
    """Make an authority, with its bundle in a private folder, until the block ends.

    `clock` returns s since 1970; `trusted` are other certificates for the bundle (PEM).
    """
    with TemporaryFolder("authority") as folder:
        yield Authority(Path(folder) / "trusted.pem", clock=clock, trusted=trusted)


@contextmanager
def _pipe_with(data: bytes) -> Iterator[str]:
    """Return a path from which `data` can be read once; at most 4096 bytes, which fit into a pipe without a reader."""
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(data)
        yield f"/dev/fd/{reading}"
    finally:
        os.close(reading)
