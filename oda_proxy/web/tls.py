"""TLS of a listener: the certificate and the key of a server."""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING, NoReturn

from oda_proxy.errors import UsageError
from oda_proxy.web.log_thread import log_event

if TYPE_CHECKING:
    from pathlib import Path

    from oda_proxy.access.authentication import Tokens
    from oda_proxy.config.settings import ServeOptions
    from oda_proxy.web.reloading import Reloads

_log = logging.getLogger(__name__)

_REASONS = {"KEY_VALUES_MISMATCH": "the key is not that of the certificate"}
_NOT_PEM = "they are not in PEM format, or damaged"
_WITHOUT_KEY = "there must be a certificate and its key in PEM format in it, or name the key with --tls-key"


class _EncryptedKeyError(Exception):
    """The key is encrypted, and nobody can be asked for its passphrase."""


def context_of(options: ServeOptions, reloads: Reloads | None = None) -> ssl.SSLContext | None:
    """Return the context of a server with a certificate, None for one without; raises UsageError.

    With `reloads`, the files are read again when the options are.
    """
    if options.tls_cert is None:
        if options.tls_key is not None:
            raise UsageError(f"--tls-key {options.tls_key} needs the certificate of this key: --tls-cert FILE")
        return None
    context = server_context(options.tls_cert, options.tls_key)
    if reloads is not None:
        read_with(reloads, context, options)
    return context


def read_with(
    reloads: Reloads, context: ssl.SSLContext | None, options: ServeOptions, *, is_logged: bool = True
) -> None:
    """Have a context, if there is one, read its files when the options are read again, for connections from then on.

    Files that cannot be used change nothing, which is logged if `is_logged`.
    """
    certificate, key = options.tls_cert, options.tls_key
    if context is None or certificate is None:
        return

    def load(_: ServeOptions, __: Tokens) -> None:
        try:
            server_context(certificate, key)
            context.load_cert_chain(certificate, key)
        except (UsageError, OSError) as error:
            if is_logged:
                log_event(_log, "reload", f"the certificate stays as it was: {error}", level=logging.WARNING)

    reloads.register(load)


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
