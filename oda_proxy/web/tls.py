"""TLS of a listener: the certificate and the key of a server."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, NoReturn

from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

_REASONS = {"KEY_VALUES_MISMATCH": "the key is not that of the certificate"}
_NOT_PEM = "they are not in PEM format, or damaged"
_WITHOUT_KEY = "there must be a certificate and its key in PEM format in it, or name the key with --tls-key"


class _EncryptedKeyError(Exception):
    """The key is encrypted, and nobody can be asked for its passphrase."""


def server_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Return the context of a server with a certificate, followed by those of its issuers, and its key (PEM).

    Without `key`, the key is in the file of the certificate. Raises UsageError.
    """
    paths = [certificate] if key is None else [certificate, key]
    for option, path in zip(("--tls-cert", "--tls-key"), paths, strict=False):
        try:
            path.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {path} ({option}): {error.strerror}") from error
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key, password=_refuse_passphrase)
    except _EncryptedKeyError as error:
        raise UsageError(f"the key in {paths[-1]} is encrypted: remove its passphrase with `openssl pkey`") from error
    except ssl.SSLError as error:
        reason = _REASONS.get(error.reason or "", _NOT_PEM if key else _WITHOUT_KEY)
        raise UsageError(f"cannot use {' and '.join(map(str, paths))} for TLS: {reason}") from error
    return context


def _refuse_passphrase() -> NoReturn:
    raise _EncryptedKeyError
