"""What errors of Redis, and of the medium of the heads, mean for a person."""

from __future__ import annotations

from typing import Final

import redis

DEFAULT_ADVICE: Final = "look at the Redis that --store names"


def reason(error: Exception) -> str:
    """Return the message of an error of a medium."""
    return "its head is missing" if isinstance(error, FileNotFoundError) else str(error) or type(error).__name__


def redis_reason(error: redis.RedisError) -> str:
    """Return what is wrong with Redis: messages of the library may have parts of commands, and are not shown whole."""
    match error:
        case redis.AuthenticationError():
            return "Redis refuses the user or the password"
        case redis.TimeoutError():
            return "Redis does not respond in time"
        case redis.ConnectionError():
            return "Redis cannot be reached"
        case redis.ReadOnlyError():
            return "this Redis is a replica, which cannot be written to"
        case _:
            return f"Redis reports an error ({str(error).partition(' ')[0][:40]})"


def advice(error: redis.RedisError) -> str:
    """Return what to do about an error of Redis."""
    if isinstance(error, redis.AuthenticationError):
        return "correct the credentials in --store"
    if isinstance(error, redis.ResponseError) and str(error).startswith("OOM"):
        return "raise maxmemory of Redis, or evict recordings with oda-proxy prune --max-size SIZE"
    return DEFAULT_ADVICE
