"""The end of a job as other replicas see it, as JSON: nothing in it names a client."""

from __future__ import annotations

import json
from typing import Any, Final

from oda_proxy.errors import CodecError, OdaProxyError
from oda_proxy.jobs.ending import GivenUpError
from oda_proxy.jobs.outcome import Outcome
from oda_proxy.recordings import failures

MAX_SIZE: Final = failures.MAX_DOCUMENT + 1024
"""Bytes of an end that is read."""
_MAX_MESSAGE: Final = 2000


def serialise(outcome: Outcome) -> bytes:
    """Return an outcome as JSON: that there is a recording, the failure, or the message of an error."""
    members: dict[str, Any] = {"done": outcome.is_done, "stored": outcome.stored}
    if outcome.store_failed:
        members["store_failed"] = True
    if outcome.error is not None:
        members["error"] = str(outcome.error)[:_MAX_MESSAGE]
    if outcome.failure is not None:
        members["failure"] = failures.serialise(outcome.failure)
    return json.dumps(members).encode("ascii")


def of_error(error: OdaProxyError) -> bytes:
    """Return the end of a job that an error ended."""
    return serialise(Outcome(error=error))


def parse(text: bytes) -> Outcome:
    """Parse what `serialise` returns. Raises CodecError for anything else."""
    if len(text) > MAX_SIZE:
        raise CodecError(f"the end of a job has more than {MAX_SIZE} bytes")
    try:
        members = json.loads(text)
        error, failure = members.get("error"), members.get("failure")
        return Outcome(
            is_done=members["done"] is True,
            stored=members["stored"] is True,
            store_failed=members.get("store_failed") is True,
            error=None if error is None else GivenUpError(str(error)[:_MAX_MESSAGE]),
            failure=None if failure is None else failures.parse(str(failure).encode("utf-8", "surrogatepass")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CodecError("the end of a job cannot be read") from None
