"""What the text of an option means: each function returns the value of one kind, or raises ValueError."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from oda_proxy.store.amounts import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.http.front_end_headers import Network
    from oda_proxy.http.scope import Scope
    from oda_proxy.store.freshness import Rule
    from oda_proxy.store.history_limits import HistoryLimits
    from oda_proxy.store.redis.address import StoreAddress


def parse_text(value: str) -> str:
    """Refuse a blank value: compose files and templates set one for a variable that they lack."""
    if not value.strip():
        raise ValueError(value)
    return value


def parse_path(value: str) -> Path:
    """Return a path."""
    return Path(parse_text(value))


def parse_route(value: str) -> str:
    """Return a closed route."""
    from oda_proxy.http.routes import CLOSED_ROUTES  # imported only if the option is set

    if value not in CLOSED_ROUTES:
        raise ValueError(value)
    return value


def parse_host_name(value: str) -> str:
    """Check the name of a host, without scheme, port and path, and return it in lower case."""
    if not value or not all(character.isalnum() or character in "-._:" for character in value) or "://" in value:
        raise ValueError(value)
    return value.casefold()


def parse_switch(value: str) -> bool:
    """Return whether a switch is on."""
    if value.casefold() not in {"1", "true", "yes", "on", "0", "false", "no", "off", ""}:
        raise ValueError(value)
    return value.casefold() in {"1", "true", "yes", "on"}


def parse_port(value: str) -> int:
    """Return a port, or 0 for a free one."""
    port = int(value)
    if not 0 <= port < 2**16:
        raise ValueError(value)
    return port


def parse_seconds(value: str) -> float:
    """Return a duration in s."""
    seconds = float(value)
    if not 0 <= seconds < float("inf"):
        raise ValueError(value)
    return seconds


def parse_count(value: str) -> int:
    """Return a number of at least 1."""
    count = int(value)
    if count < 1:
        raise ValueError(value)
    return count


def parse_rate(value: str) -> float:
    """Return a number per second, above 0."""
    rate = float(value)
    if not 0 < rate < float("inf"):
        raise ValueError(value)
    return rate


def parse_log_format(value: str) -> str:
    """Return the name of a format of the log."""
    if value not in {"text", "json"}:
        raise ValueError(value)
    return value


def parse_generation(value: str) -> str:
    """Return the name of a generation of the dispatcher."""
    if value not in {"today", "2019"}:
        raise ValueError(value)
    return value


def parse_dummy_release(value: str) -> str:
    """Return the release of the dispatcher whose dummy instruments a mock has."""
    if value not in {"1.3.3", "1.3.6"}:
        raise ValueError(value)
    return value


def parse_size_or_none(value: str) -> int:
    """Parse a size, or 0."""
    return 0 if value.strip() == "0" else parse_size(value)


def parse_store(value: str) -> StoreAddress:
    """Parse the URL of a store in Redis. Raises InvalidPartError, which shows no credentials."""
    from oda_proxy.store.redis.address import StoreAddress  # imported only if the option is set

    return StoreAddress.parse(value)


def parse_compress(value: str) -> str:
    """Return which clients receive recordings compressed."""
    if value not in {"auto", "always", "never"}:
        raise ValueError(value)
    return value


def parse_sharing(value: str) -> str:
    """Return who shares private recordings."""
    if value not in {"subject", "roles", "team"}:
        raise ValueError(value)
    return value


def parse_readers(value: str) -> str:
    """Return who may read pages."""
    if value not in {"anyone", "local", "token", "verified"}:
        raise ValueError(value)
    return value


def parse_allowed_host(value: str) -> str:
    """Check a name of this server, without a port, or `*`."""
    name = parse_host_name("any" if value == "*" else value.removeprefix("[").removesuffix("]"))
    if name.count(":") == 1:
        raise ValueError(value)
    return value if value == "*" else name


def parse_rule(value: str) -> Rule:
    """Return a rule for the lifetime of recordings."""
    from oda_proxy.store.freshness import Rule  # imported only if the option is set

    return Rule.parse(value)


def parse_history(value: str) -> HistoryLimits:
    """Return the limits of the history."""
    from oda_proxy.store.history_limits import HistoryLimits  # imported only if the option is set

    return HistoryLimits.parse(value)


def parse_as_of(value: str, *, clock: Callable[[], float] = time.time) -> Scope:
    """Return the past time for requests that name none, with `/only` where nothing else may be requested.

    `clock` returns s since 1970 (UTC): a time in its future is refused.
    """
    from oda_proxy.errors import OdaProxyError
    from oda_proxy.http.scope import ONLY, AsOf, Scope  # imported only if the option is set

    date, slash, only = value.partition("/")
    if slash and only != ONLY:
        raise ValueError(value)
    try:
        as_of = AsOf.parse(date)
        as_of.check(clock())
    except OdaProxyError as error:
        raise ValueError(value) from error
    return Scope(as_of, only=bool(slash))


def parse_address(value: str) -> str:
    """Return the address of a dispatcher without a slash at its end."""
    from urllib.parse import urlsplit  # imported only if the option is set

    parts = urlsplit(value)
    _ = parts.port  # raises ValueError if it is not valid
    if (
        value != value.strip()
        or parts.scheme not in {"http", "https"}
        or not parts.hostname
        or parts.query
        or parts.fragment
        or parts.username
    ):
        raise ValueError(value)
    return value.rstrip("/")


def parse_public_url(value: str) -> str:
    """Check the URL of this server: `https://host/prefix`, whose path needs no encoding."""
    from urllib.parse import urlsplit  # imported only if the option is set

    from oda_proxy.http.front_end_headers import plain_prefix

    path = urlsplit(value).path
    if path.strip("/") and plain_prefix(path) is None:
        raise ValueError(value)
    return parse_address(value)


def parse_trusted_proxy(value: str) -> Network | str:
    """Parse the address of a front end or a network of them, or `unix`."""
    import ipaddress  # imported only if the option is set

    return value if value == "unix" else ipaddress.ip_network(value)


def parse_origins(value: str) -> tuple[str, ...]:
    """Return the origins of web sites, or `*` alone."""
    origins = tuple(parse_origin(origin.strip()) for origin in value.split(","))
    if len(origins) > 1 and "*" in origins:
        raise ValueError(value)
    return origins


def parse_origin(value: str) -> str:
    """Return an origin as browsers send it: scheme and host in lower case, and a port unless it is the default."""
    from urllib.parse import urlsplit  # imported only if the option is set

    if value == "*":
        return value
    parts = urlsplit(value.casefold())
    _ = parts.port  # raises ValueError if it is not valid
    if (
        parts.scheme not in _DEFAULT_PORTS
        or not parts.hostname
        or value.casefold() != f"{parts.scheme}://{parts.netloc}"
    ):
        raise ValueError(value)
    if parts.username is not None:
        raise ValueError(value)
    return f"{parts.scheme}://{parts.netloc.removesuffix(_DEFAULT_PORTS[parts.scheme])}"


_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
