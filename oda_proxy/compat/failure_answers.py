"""How a client is told that a job failed, so that every generation of it reads why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.http.answer import error_answer

if TYPE_CHECKING:
    from oda_proxy.errors import OdaProxyError
    from oda_proxy.http.answer import Answer
    from oda_proxy.query.query import Envelope

NO_JOB = "0" * 16
"""The job_id of an answer to which no job belongs: clients since 1.0.9 want text there."""


def failure_answer(error: OdaProxyError, envelope: Envelope) -> Answer:
    """End a job at once, with its reason, in every generation of the client.

    Clients read the reason from different places: those before 1.1.46 from `exit_status` whatever the HTTP status is,
    later ones from `error` where it is 400, from either where it is 403, and from `error_message` where it is 500. This
    body has them all. After 502 later ones ask again for half an hour: right for a job that may still run upstream,
    wrong for one that was never begun.
    """
    status = error.http_status
    if isinstance(error, UpstreamUnreachableError) and envelope.query_status == "new":
        status = 500
    text = json.dumps(failure_body(str(error), envelope), separators=(",", ":")).encode("ascii")
    return error_answer(status, "application/json", text, error)


def failure_body(message: str, envelope: Envelope) -> dict[str, Any]:
    """Say that a job failed, so that every generation of the client reads why."""
    session_id, job_id = envelope.session_id, envelope.job_id or NO_JOB
    return {
        "query_status": "failed",
        "products": {},
        "exit_status": {
            "status": 1,
            "message": message,
            "error_message": message,
            "debug_message": "",
            "comment": "",
            "warning": "",
            "job_status": "failed",
        },
        "job_monitor": {"job_id": job_id, "session_id": session_id, "status": "failed"},
        "job_status": "failed",
        "session_id": session_id,
        "error": message,
        "error_message": message,
    }
