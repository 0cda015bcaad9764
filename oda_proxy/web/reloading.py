"""Reading the configuration again while the server runs: what changes at once, and what takes a restart."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.errors import OdaProxyError
from oda_proxy.store.eviction import Limits
from oda_proxy.store.freshness import Freshness
from oda_proxy.upstream.throttling import ThrottledUpstream
from oda_proxy.web.guarding import client_limits_of, tokens_of
from oda_proxy.web.log_thread import log_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.access.authentication import Tokens
    from oda_proxy.config.settings import ServeOptions
    from oda_proxy.proxy import Proxy
    from oda_proxy.web.own_routes import Guard
    from oda_proxy.web.server_state import ServerState

_log = logging.getLogger(__name__)

RELOADABLE: Final = frozenset(
    {
        *("capsule", "max_size", "min_free", "max_requests", "max_rate", "max_jobs", "client_jobs", "lifetime"),
        *("admin_token", "admin_token_file", "read_token", "read_token_file", "metrics_token_file"),
    }
)
"""Options that take effect without a restart, by their names in `ServeOptions`."""
_OF_CLIENTS: Final = frozenset({"client_rate", "client_bytes"})
"""Options that do so, too, where clients have had one of these limits since the start."""
_SECRET: Final = frozenset({"admin_token", "read_token", "secret_key"})


class Reloads:
    """The options of a running server, and what takes over new ones.

    `read` reads them from where they were read at the start. What changes is logged if `is_logged`.
    """

    def __init__(self, options: ServeOptions, read: Callable[[], ServeOptions], *, is_logged: bool = True) -> None:
        self.options = options
        self.tokens = tokens_of(options)
        self._read = read
        self._is_logged = is_logged
        self._limits_clients = bool(client_limits_of(options))
        self._apply: list[Callable[[ServeOptions, Tokens], None]] = []

    def register(self, apply: Callable[[ServeOptions, Tokens], None]) -> None:
        """Have new options of the whole server, and its tokens, passed to a function."""
        self._apply.append(apply)

    def reload(self) -> None:
        """Read the options again, and have them applied; where they are not valid, all stays as it was."""
        try:
            options = self._read()
            tokens = tokens_of(options)
        except (OdaProxyError, OSError) as error:
            if self._is_logged:
                text = f"the configuration stays as it was: {error}"
                log_event(_log, "reload", text, level=logging.WARNING)
            return
        for apply in self._apply:
            apply(options, tokens)
        if self._is_logged:
            self._log_changes(options, tokens)
        self.options, self.tokens = options, tokens

    def _log_changes(self, options: ServeOptions, tokens: Tokens) -> None:
        applied: list[str] = []
        restart: list[str] = []
        for name, value in changes(self.options, options):
            is_applied = name.rpartition(".")[2] in RELOADABLE or (name in _OF_CLIENTS and self._limits_clients)
            (applied if is_applied else restart).append(name)
            when = "" if is_applied else " takes effect after a restart"
            log_event(_log, "reload", f"{_flag(name)} {_shown(name, value)}{when}")
        text = "the configuration was read again"
        if tokens != self.tokens:
            text = f"{text}; tokens have changed"
        elif not applied and not restart:
            text = f"{text}; nothing has changed"
        log_event(_log, "reload", text, changed=applied, after_restart=restart, tokens=tokens != self.tokens)


def changes(before: ServeOptions, after: ServeOptions) -> list[tuple[str, Any]]:
    """Return the names of options that differ with their new values; those of an upstream follow its name and a dot."""
    found = [
        (one.name, getattr(after, one.name))
        for one in fields(after)
        if one.name != "upstreams" and getattr(before, one.name) != getattr(after, one.name)
    ]
    known = {one.name: one for one in before.upstreams}
    if list(known) != [one.name for one in after.upstreams]:
        found.append(("upstreams", ", ".join(one.name for one in after.upstreams)))
    of_server = dict(found)
    for one in after.upstreams:
        if one.name in known:
            own = changes(replace(known[one.name], name=""), replace(one, name=""))
            found += [(f"{one.name}.{name}", value) for name, value in own if of_server.get(name, _NOTHING) != value]
    return found


_NOTHING: Final = object()


@dataclass(frozen=True, slots=True)
class ReloadableProxy:
    """A proxy that takes over new options: that of the upstream with a name, or the only one."""

    name: str
    proxy: Proxy
    server: ServerState
    guard: Guard

    def apply(self, options: ServeOptions, tokens: Tokens) -> None:
        """Take over the new options and tokens of the server; one that is no longer there goes on until a restart."""
        self.guard.authentication.tokens = tokens
        if self.guard.limiter is not None:
            self.guard.limiter.set_limits(client_limits_of(options))
        one = next((one for one in options.each_upstream if one.name == self.name), None)
        if one is None:
            return
        self.server.limits = Limits(one.max_size, one.min_free)
        self.proxy.set_freshness(Freshness(one.lifetime))
        if one.capsule or self.proxy.capsules.capsules:
            self.proxy.capsules.reload(one.capsule, requires_match=not one.name)
        self.proxy.jobs.set_limits(one.max_jobs, one.client_jobs)
        if isinstance(self.proxy.upstream, ThrottledUpstream):
            self.proxy.upstream.set_limits(max_concurrent=one.max_requests, rate=one.max_rate)


def _flag(name: str) -> str:
    upstream, _, option = name.rpartition(".")
    flag = f"--{option.replace('_', '-')}"
    return f"{flag} of {upstream}" if upstream else flag


def _shown(name: str, value: Any) -> str:
    """Return a new value as text, unless it is secret."""
    if name.rpartition(".")[2] in _SECRET:
        return "has another value" if value else "is not set any more"
    if isinstance(value, tuple):
        return f"is {', '.join(map(str, value)) or 'not set'}"
    return "is not set" if value is None else f"is {value}"
