"""What errors of Redis, and of the medium of the heads, mean for a person."""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import redis
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    RedisClusterException,
)
from redis.sentinel import MasterNotFoundError

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store.objects.bodies import BodiesUnusableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.store.redis.address import BucketAddress, FolderAddress, RedisAddress

DEFAULT_ADVICE: Final = "look at the Redis that --store names"

REDIS_ERRORS: Final = (redis.RedisError, RedisClusterException)
"""What redis-py raises: its errors of clusters are not all derived from its base class."""

_CAUSES: Final = 10
"""Errors in the chain of causes that are looked at."""
_FORBIDDEN: Final = (
    "Redis forbids this user commands, keys or channels that a store needs",
    "permit them (docs/scale.md), or name another user in --store",
)
_CLOSED: Final = (
    "Redis closes connections",
    "look at its log; where it uses TLS, begin the URL in --store with rediss",
)
_MEANINGS: Final[tuple[tuple[type[Exception], str, str], ...]] = (
    (redis.AuthenticationError, "Redis refuses the user or the password", "correct the credentials in --store"),
    (BusyLoadingError, "Redis is loading its data", "wait until it has"),
    (
        MasterNotFoundError,
        "no sentinel responds that knows a master of this service",
        "correct the hosts or the service in --store",
    ),
    (redis.TimeoutError, "Redis does not respond in time", f"{DEFAULT_ADVICE}, and whether it uses TLS"),
    (redis.ConnectionError, "Redis cannot be reached", DEFAULT_ADVICE),
    (
        redis.ReadOnlyError,
        "this Redis is a replica, which cannot be written to",
        "name its master, or its sentinels, in --store",
    ),
    (
        OutOfMemoryError,
        "Redis has reached its maxmemory",
        "raise it, or evict recordings with oda-proxy prune --max-size SIZE",
    ),
    (NoPermissionError, *_FORBIDDEN),
    (MovedError, "this Redis is part of a cluster", "begin the URL in --store with redis+cluster://"),
    (ClusterDownError, "the cluster of Redis is down, or has no server for some keys", DEFAULT_ADVICE),
    (RedisClusterException, "no server of a cluster of Redis can be reached", "look at the cluster, or at --store"),
)
"""Errors of the library, what they mean and what to do; the first that matches counts."""
_TEXTS: Final = (
    ("Connection closed by server", *_CLOSED),
    ("Connection reset by peer", *_CLOSED),
    ("MISCONF", "Redis cannot write its data to its disk", "look at its log, and free space on its disk"),
    ("user executing the script can't", *_FORBIDDEN),
    (
        "OTHERINDEX",
        "Redis has lost its data, or is not the one of before",
        "restore its data, or do what the start of another server says",
    ),
    ("WRONGTYPE", "a key in Redis is of another type: somebody else wrote it", "run oda-proxy verify --fix"),
    ("DB index is out of range", "Redis has no database with this number", "correct it in --store"),
    ("Protocol Error", "this server is no Redis", "correct the host and the port in --store"),
    ("unknown command", "this server lacks commands that are needed: it may be a sentinel, or none", DEFAULT_ADVICE),
)
"""The same for parts of messages whose errors the library does not distinguish; they count first."""


class WrongServerError(redis.RedisError):
    """A server of Redis is not what the URL says; the message says what it is, `advice` what to do."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.advice = advice


def reason(error: Exception) -> str:
    """Return the message of an error of a medium."""
    return "its head is missing" if isinstance(error, FileNotFoundError) else str(error) or type(error).__name__


def redis_reason(error: Exception) -> str:
    """Return what is wrong with Redis: messages of the library may have parts of commands, and are not shown whole."""
    return _meaning(error)[0]


def advice(error: Exception) -> str:
    """Return what to do about an error of Redis."""
    return _meaning(error)[1]


@contextmanager
def translated(address: RedisAddress) -> Iterator[None]:
    """Raise StoreUnusableError where Redis fails."""
    try:
        yield
    except REDIS_ERRORS as error:
        raise StoreUnusableError(str(address), redis_reason(error), advice(error)) from error


@contextmanager
def translated_bodies(address: FolderAddress | BucketAddress) -> Iterator[None]:
    """Raise StoreUnusableError where the medium of the heads fails."""
    try:
        yield
    except BodiesUnusableError as error:
        bodies_advice = "look at the folder or the bucket that --store names"
        raise StoreUnusableError(str(address), reason(error), bodies_advice) from error


def _meaning(error: Exception) -> tuple[str, str]:
    """Return what is wrong with Redis, and what to do."""
    if (of_tls := _tls_meaning(error)) is not None:
        return of_tls
    if isinstance(error, WrongServerError):
        return str(error), error.advice
    if (found := next((meaning for part, *meaning in _TEXTS if part in str(error)), None)) is not None:
        return found[0], found[1]
    if (found := next((meaning for kind, *meaning in _MEANINGS if isinstance(error, kind)), None)) is not None:
        return found[0], found[1]
    return f"Redis reports an error ({str(error).partition(' ')[0][:40]})", DEFAULT_ADVICE


_CERTIFICATES: Final = "name the right ssl_certfile and ssl_keyfile in --store"


def _tls_meaning(error: BaseException | None) -> tuple[str, str] | None:
    """Return what an error of TLS means; None for another error. The library has it as a cause."""
    for _ in range(_CAUSES):
        if error is None:
            return None
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not valid ({error.verify_message})", "correct the host, or ssl_ca_certs"
        if isinstance(error, ssl.SSLError) and "CERTIFICATE_REQUIRED" in (error.reason or ""):
            return "Redis requires a certificate of its clients", _CERTIFICATES
        if isinstance(error, ssl.SSLError) and error.reason in {"WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING"}:
            return "Redis does not use TLS at this port", "begin the URL in --store with redis in place of rediss"
        if isinstance(error, ssl.SSLError):
            return f"TLS fails ({error.reason or 'the connection was closed'})", _CERTIFICATES
        error = error.__cause__ or error.__context__
    return None
