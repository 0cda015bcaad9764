"""The answer to a query of a client that is over a limit: every release of oda_api polls after it.

Releases up to 1.1.0 read the state of a job whatever the HTTP status. Later ones end with an error at once for 429, so
they get the state of a job with status 200: the job waits, and the client polls. Its job starts with the first poll
below the limit.
"""

from __future__ import annotations

import math
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from oda_proxy.compat.generations import Generation, generation
from oda_proxy.http.answer import json_answer
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.jobs.progress import running_answer

if TYPE_CHECKING:
    from oda_proxy.http.answer import Answer
    from oda_proxy.query.query import Envelope

LIMITED: Final = CacheStatus(detail="client-limit")


def limit_answer(envelope: Envelope, *, job_id: str, reason: str, retry_after: float, now: float) -> Answer:
    """Return the answer to a query over a limit: a job that waits, with `Retry-After`.

    `job_id` is the name of the job for the client, `retry_after` is in s, `now` in s since 1970 (UTC).
    """
    seconds = max(math.ceil(retry_after), 1)
    version = envelope.client_version
    ends_with_429 = version is not None and generation(version) is Generation.MODERN
    text = running_answer(
        "progress" if envelope.query_status in {"progress", "ready"} else "submitted",
        envelope,
        job_id=envelope.job_id or job_id,
        reports=(),
        comment=f"oda-proxy: {reason}; the query waits for at least {seconds} s",
        urgent=True,
        now=now,
    )
    answer = json_answer(HTTPStatus.OK if ends_with_429 else HTTPStatus.TOO_MANY_REQUESTS, text, LIMITED)
    return replace(answer, headers=(*answer.headers, ("Retry-After", str(seconds))))
