"""The value of `--store URL`: where the index of a store is, and where its heads are.

    redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]?bodies=WHERE
    unix:///PATH/redis.sock?database=0&bodies=WHERE
    redis+sentinel://[...@]HOST[:PORT],HOST[:PORT]/SERVICE[/DATABASE]?bodies=WHERE
    redis+cluster://[...@]HOST[:PORT],HOST[:PORT]?bodies=WHERE

With `rediss` in place of `redis`, connections use TLS. WHERE is `s3://BUCKET[/PREFIX]` or `file:///FOLDER`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from oda_proxy.errors import InvalidPartError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

MAX_URL: Final = 4096
"""Characters of a URL."""

_MAX_DATABASE: Final = 2**31
_SCHEMES: Final = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster", "unix")
_PORTS: Final = {"": 6379, "sentinel": 26379, "cluster": 6379}
_TLS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_S3: Final = ("endpoint", "region")
_HOST: Final = re.compile(r"[\w.-]{1,253}", re.ASCII)
_IPV6: Final = re.compile(r"\[[0-9a-fA-F:.]{2,45}\]")
_SERVICE: Final = re.compile(r"[\w.-]{1,200}", re.ASCII)
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX: Final = re.compile(r"[\w!.*'()/=-]{0,500}", re.ASCII)


class Topology(StrEnum):
    """How the servers of a Redis belong together."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files for connections with TLS; by default the authorities of the system, and no certificate of the client."""

    ca_certs: Path | None = None
    certfile: Path | None = None
    keyfile: Path | None = None


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a Redis is."""

    topology: Topology
    hosts: tuple[tuple[str, int], ...]
    """Host and port of the server, of the sentinels, or of some servers of the cluster; empty for a socket."""
    database: int = 0
    service: str = ""
    """The name of the service that sentinels watch."""
    socket: Path | None = None
    tls: TlsFiles | None = None
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Return the URL without credentials."""
        if self.socket is not None:
            return f"unix://{self.socket}"
        scheme = f"redis{'s' if self.tls else ''}{'' if self.topology is Topology.SINGLE else f'+{self.topology}'}"
        hosts = ",".join(f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in self.hosts)
        path = f"/{self.service}" if self.service else ""
        return f"{scheme}://{hosts}{path}{'' if self.topology is Topology.CLUSTER else f'/{self.database}'}"


@dataclass(frozen=True, slots=True)
class FolderAddress:
    """A folder that all hosts of a store share."""

    folder: Path

    def __str__(self) -> str:
        """Return the URL."""
        return f"file://{quote(str(self.folder))}"


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """A bucket of a service with the protocol of S3, and a prefix in it, without a slash at either end."""

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    """URL of the service; None for the one that the environment names (AWS_ENDPOINT_URL), or AWS."""
    region: str | None = None

    def __str__(self) -> str:
        """Return the URL."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where the index of a store and its heads are."""

    redis: RedisAddress
    bodies: FolderAddress | BucketAddress

    def __str__(self) -> str:
        """Return the URL without credentials."""
        return f"{self.redis}?bodies={self.bodies}"

    @classmethod
    def parse(cls, text: str) -> StoreAddress:
        """Parse a URL. Raises InvalidPartError, whose message shows no credentials."""
        if len(text) > MAX_URL or not text.isprintable() or " " in text:
            raise InvalidPartError(f"must be a URL of at most {MAX_URL} printable characters without spaces")
        scheme = text.partition("://")[0].casefold()
        if scheme not in _SCHEMES or "://" not in text:
            raise InvalidPartError(f"must begin with one of {', '.join(f'{one}://' for one in _SCHEMES)}")
        try:
            parts = urlsplit(text)
        except ValueError:
            raise InvalidPartError("has brackets that are not those of an IPv6 address") from None
        if parts.fragment:
            raise InvalidPartError("has a #, which must be written as %23")
        parameters = _parameters(parts.query)
        if scheme != "unix" and any("@" in one for one in (parts.path, *parameters)):
            raise InvalidPartError("has an @ after its host: write / and ? in a password as %2F and %3F")
        redis = _redis_address(scheme, parts, parameters)
        bodies = _bodies(parameters)
        if parameters:
            raise InvalidPartError(f"has the parameter {min(parameters)!r:.60}, which has no meaning here")
        return cls(redis, bodies)


def _parameters(query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise InvalidPartError("has one of its parameters twice")
    return parameters


def _redis_address(scheme: str, parts: SplitResult, parameters: dict[str, str]) -> RedisAddress:
    """Return the address of Redis, and take its parameters."""
    protocol, _, kind = scheme.partition("+")
    credentials, _, place = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    database = parameters.pop("database", None)
    path = [unquote(one) for one in parts.path.split("/")[1:]]
    tls = {name: _file(name, parameters.pop(name)) for name in _TLS if name in parameters}
    if tls and protocol != "rediss":
        raise InvalidPartError(f"has {min(tls)}, which needs rediss:// in place of {scheme}://")
    if "ssl_keyfile" in tls and "ssl_certfile" not in tls:
        raise InvalidPartError("has ssl_keyfile, which needs the certificate of the client: ssl_certfile")
    files = TlsFiles(tls.get("ssl_ca_certs"), tls.get("ssl_certfile"), tls.get("ssl_keyfile"))
    own = RedisAddress(
        Topology(kind or "single"),
        hosts=(),
        tls=files if protocol == "rediss" else None,
        username=unquote(username) or None,
        password=unquote(password) or None,
    )
    if protocol == "unix":
        if place or not parts.path.strip("/"):
            raise InvalidPartError("must have the absolute path of a socket: unix:///run/redis/redis.sock")
        return replace(own, database=_database(database or "0"), socket=Path(unquote(parts.path)))
    hosts = tuple(_host(one, _PORTS[kind]) for one in place.split(","))
    if own.topology is Topology.SINGLE and len(hosts) > 1:
        raise InvalidPartError("has several hosts: use redis+sentinel:// or redis+cluster://")
    service = ""
    if own.topology is Topology.SENTINEL:
        service = path.pop(0) if path else ""
        if not _SERVICE.fullmatch(service):
            raise InvalidPartError("must name the service of the sentinels: redis+sentinel://HOST:26379/SERVICE/0")
    path = [one for one in path if one]
    if own.topology is Topology.CLUSTER and (path or database):
        raise InvalidPartError("names a database, of which a cluster has only one: leave it out")
    if len(path) > 1 or (path and database is not None):
        raise InvalidPartError("must have a number of a database, such as /0, and nothing else as its path")
    number = _database(path[0] if path else database or "0")
    return replace(own, hosts=hosts, database=number, service=service)


def _host(text: str, default_port: int) -> tuple[str, int]:
    """Parse a host with or without a port."""
    ipv6 = _IPV6.match(text)
    host, _, port = (ipv6[0], "", text[ipv6.end() :].removeprefix(":")) if ipv6 else text.partition(":")
    if not ipv6 and not _HOST.fullmatch(host):
        raise InvalidPartError(f"must name a host, such as redis.example.org:6379, not {host!r:.60}")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 2**16):
        raise InvalidPartError(f"has the port {port!r:.20}, which must be a number from 1 to 65535")
    return host.strip("[]"), int(port or default_port)


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:12]) < _MAX_DATABASE):
        raise InvalidPartError(f"has the database {text!r:.20}, which must be a number, such as 0")
    return int(text)


def _file(name: str, text: str) -> Path:
    if not text.strip():
        raise InvalidPartError(f"has an empty {name}")
    return Path(text)


def _bodies(parameters: dict[str, str]) -> FolderAddress | BucketAddress:
    """Return where heads are, and take the parameters for it."""
    text = parameters.pop("bodies", "")
    scheme, _, rest = text.partition("://")
    if not text:
        raise InvalidPartError("must say where heads are: add ?bodies=s3://BUCKET/PREFIX or ?bodies=file:///FOLDER")
    if scheme == "file":
        if not rest.startswith("/") or not rest.strip("/"):
            raise InvalidPartError("has bodies=file: with a path that is not absolute: use file:///FOLDER")
        return FolderAddress(Path(unquote(rest)))
    if scheme != "s3":
        raise InvalidPartError("has bodies that are neither s3://BUCKET/PREFIX nor file:///FOLDER")
    bucket, _, prefix = unquote(rest).partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise InvalidPartError(f"has the bucket {bucket!r:.70}: use 3 to 63 of a-z, 0-9, . and -")
    prefix = prefix.strip("/")
    if prefix and not (_PREFIX.fullmatch(prefix) and {"", ".", ".."}.isdisjoint(prefix.split("/"))):
        raise InvalidPartError("has a prefix in its bucket that is not letters, digits and - _ . = between slashes")
    endpoint, region = (parameters.pop(name, None) for name in _S3)
    if endpoint is not None and not _is_plain_url(endpoint):
        raise InvalidPartError("has an endpoint that is not an http(s) URL without user, path and query")
    return BucketAddress(bucket, prefix, endpoint, region)


def _is_plain_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises ValueError if it is not valid
    except ValueError:
        return False
    is_complete = parts.scheme in {"http", "https"} and bool(parts.hostname)
    return is_complete and not (parts.username or parts.query or parts.fragment or parts.path.strip("/"))
