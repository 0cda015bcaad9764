"""The guard of a server's own routes, from the options of the server."""

from __future__ import annotations

import secrets
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from oda_proxy.access.authentication import Authentication, Readers, Secret, Tokens
from oda_proxy.access.client_limits import ClientLimiter, ClientLimits
from oda_proxy.access.hosts import HostPolicy
from oda_proxy.access.ownership import NO_DESCRIPTIONS, Ownership
from oda_proxy.access.sessions import Sessions
from oda_proxy.errors import UsageError
from oda_proxy.files.secret_file import read_secret
from oda_proxy.http.loopback import is_loopback
from oda_proxy.web.own_routes import Guard

if TYPE_CHECKING:
    from pathlib import Path

    from oda_proxy.config.settings import ServeOptions
    from oda_proxy.handlers.persons import Persons

_ALL_ADDRESSES = frozenset({"0.0.0.0", "::"})  # noqa: S104 - nothing listens here


@dataclass(frozen=True, slots=True)
class SharedAccess:
    """What all processes and all upstreams of a server share."""

    tokens: Tokens
    sessions: Sessions
    """Those of browsers; each process has its own list of those that were ended."""
    limiter: ClientLimiter | None
    """Counts what clients send and receive; None without a limit."""


def shared_access(options: ServeOptions) -> SharedAccess:
    """Return what the processes of a server share; called before they are forked. Raises UsageError."""
    limits = client_limits_of(options)
    limiter = ClientLimiter(limits, time.monotonic) if limits else None
    return SharedAccess(tokens_of(options), Sessions(secrets.token_bytes(32), time.time), limiter)


def client_limits_of(options: ServeOptions) -> ClientLimits:
    """Return what one client of a server may do."""
    return ClientLimits(options.client_rate, options.client_bytes)


def guard_of(options: ServeOptions, shared: SharedAccess, persons: Persons | None) -> Guard:
    """Return the guard of a server; `persons` are those that the dispatcher knows, None without a dispatcher."""
    authentication = Authentication(
        shared.tokens,
        readers=Readers(options.readers),
        trusts_addresses=options.public_url is None or bool(options.trusted_proxy),
        audience_of=persons.audience_of if persons else None,
        ownership=Ownership(persons.stored_schemas) if persons else NO_DESCRIPTIONS,
        sessions=shared.sessions,
        upstream=options.name,
    )
    return Guard(authentication, _hosts(options), shared.limiter)


def tokens_of(options: ServeOptions) -> Tokens:
    """Return the tokens of a server, from its options and the files that they name, as these are now.

    A running server reads them again with this, and replaces `Authentication.tokens`. Raises UsageError.
    """
    return Tokens(
        admin=_secret("admin-token", options.admin_token, options.admin_token_file),
        read=_secret("read-token", options.read_token, options.read_token_file),
        metrics=_secret("metrics-token", None, options.metrics_token_file),
    )


def _secret(name: str, text: str | None, file: Path | None) -> Secret | None:
    if file is None:
        return None if text is None else Secret(text)
    if text is not None:
        raise UsageError(f"--{name} and --{name}-file are both set: say one of them")
    return Secret(read_secret(file, f"--{name}-file"))


def _hosts(options: ServeOptions) -> HostPolicy:
    """Return the names of a server: those that are allowed, that of its public URL, and that of this machine."""
    public = urlsplit(options.public_url or "").hostname
    machine = None if options.allowed_host else socket.gethostname().casefold()
    return HostPolicy(
        allowed=frozenset(options.allowed_host),
        own=frozenset(name for name in (public, machine) if name),
        is_on_loopback=options.host in _ALL_ADDRESSES or is_loopback(options.host),
    )
