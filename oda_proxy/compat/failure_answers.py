"""The answer that a job failed, in a form of which every generation of the client reads the reason."""

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
"""The job_id of an answer without a job: clients since 1.0.9 require text."""


def failure_answer(error: OdaProxyError, envelope: Envelope) -> Answer:
    """Return the answer that ends a job with an error, in every generation of the client.

    Clients read the reason from different members: those before 1.1.46 from `exit_status` for any HTTP status, later
    ones from `error` for 400, from either for 403, and from `error_message` for 500. This body has them all. After 502
    later ones retry for half an hour: right for a job that may still run upstream, wrong for one that never started.
    """
    status = error.http_status
    if isinstance(error, UpstreamUnreachableError) and envelope.query_status == "new":
        status = 500
    text = json.dumps(failure_body(str(error), envelope), separators=(",", ":")).encode("ascii")
    return error_answer(status, "application/json", text, error)


def failure_body(message: str, envelope: Envelope) -> dict[str, Any]:
    """Return the JSON object of a failed job, with the reason in every member from which some client reads it."""
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
