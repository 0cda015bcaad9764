"""The bodies of answers, field by field as dispatcher 1.3.6 writes them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mock_server.jobs import Job

VERSION: Final = "1.3.6"
CLIENT_VERSION: Final = "1.3.5"
_FORBIDDEN: Final = 403
_NOT_IN_CODE: Final = frozenset({"job_id", "query_status", "session_id", "use_scws"})


@dataclass(frozen=True)
class ExitStatus:
    """How a request went, in words."""

    job_status: str
    status: int = 0
    message: str = ""
    error_message: str = ""
    debug_message: str = ""
    comment: str = ""
    warning: str = ""


@dataclass(frozen=True)
class Answer:
    """The answer to a request, but for its data products.

    Attributes
    ----------
    bookkeeping
        What stands under `products` behind the data products.
    extra
        Fields behind all others.
    """

    query_status: str
    exit_status: ExitStatus
    job_monitor: Mapping[str, Any]
    session_id: str
    time_request: float | None
    http_status: int = 200
    bookkeeping: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def body(self, products: bytes = b"") -> bytes:
        """Write the answer as the dispatcher does: compact ASCII JSON in this order, and a newline.

        `products` are the members of the data products as JSON, without braces; they are not parsed.
        """
        members = [part for part in (products, compact(self.bookkeeping)[1:-1]) if part]
        tail: dict[str, Any] = {
            "exit_status": vars(self.exit_status),
            "job_monitor": self.job_monitor,
            "job_status": self.job_monitor["status"],
            "session_id": self.session_id,
        }
        if self.time_request is not None:
            tail |= {"status_code": self.http_status} if self.http_status == _FORBIDDEN else {}
            tail["time_request"] = self.time_request
        tail |= self.extra
        head = b'{"query_status":' + compact(self.query_status) + b',"products":{'
        return head + b",".join(members) + b"}," + compact(tail)[1:] + b"\n"


def compact(value: Any) -> bytes:
    """Write JSON without blanks; NaN is written as such, as the dispatcher does."""
    return json.dumps(value, separators=(",", ":")).encode()


def refusal(
    kind: str | None, message: str, *, instruments: Sequence[str], products_url: str, debug_message: str | None = None
) -> bytes:
    """Write the body of a request that the dispatcher refuses to understand (400) or to serve (early 403).

    `kind` is the name of its exception; None for one that it does not expect (500).

    It shows a configuration as the real one does, of which nothing exists: who passes such a body on should strip it.
    """
    details: dict[str, Any] = {"error_message": message}
    if debug_message is not None:
        details["debug_message"] = debug_message
    details |= {"message": "request not valid"} if kind is None else {"error": f"{kind}():{message}"}
    details |= {
        "cdci_data_analysis_version": VERSION,
        "cdci_data_analysis_version_details": "unknown",
        "oda_api_version": CLIENT_VERSION,
        "installed_instruments": list(instruments),
        "debug_mode": "no",
        "config": {
            "dispatcher-config": {
                "origin": {"filepath": "/srv/dispatcher/dispatcher.yaml", "set_by": "command line"},
                "cfg_dict": {
                    "dispatcher": {
                        "dummy_cache": "dummy-cache",
                        "products_url": products_url,
                        "email_options": {"sender_email_address": "dispatcher@example.org"},
                    }
                },
            }
        },
    }
    return compact(details) + b"\n"


def failure(message: str, *, job_id: str, session_id: str, comment: str = "") -> bytes:
    """Write the failed answer that every release of the client shows at once."""
    return Answer(
        query_status="failed",
        exit_status=ExitStatus("failed", 1, message, message, comment=comment),
        job_monitor={"job_id": job_id, "session_id": session_id, "status": "failed"},
        session_id=session_id,
        time_request=None,
        extra={"error": message, "error_message": message},
    ).body()


def job_monitor(
    job: Job, *, job_id: str, status: str, reports: Sequence[Mapping[str, Any]], token: str | None
) -> dict[str, Any]:
    """Write what an answer says of its job.

    While the job runs it holds the reports of the back end, oldest first: call-backs as they came, else invented ones
    as those of the INTEGRAL plugins, the first one twice. These name the session that began the job, and its token.
    """
    monitor: dict[str, Any] = {"job_id": job_id, "session_id": job.session_id, "status": status}
    places: dict[str, Any] = {
        "work_dir": f"scratch_sid_{job.session_id}_jid_{job.job_id}",
        "file_name": "job_monitor.json",
    }
    common = {
        "session_id": job.session_id,
        "job_id": job.job_id,
        **places,
        "instrument_name": job.echo["instrument"],
        "token": str(token),
        "time_original_request": str(job.time_request),
        "progressing": "",
        "level": "modify",
        "node": job.echo["product_type"],
    }
    full = [{**(places if job.messages else common), **report} for report in reports]
    if full:
        monitor["full_report_dict"] = full[-1]
    if not job.is_synchronous and status not in ("done", "unaccessible"):
        monitor["full_report_dict_list"] = full if job.messages or len(full) == 1 else [*full[:1], *full]
    return monitor


def api_code(echo: Mapping[str, Any], products_url: str) -> str:
    """Write the Python text that repeats a query, as the dispatcher does, token included."""
    arguments = {name: value for name, value in echo.items() if name not in _NOT_IN_CODE and value is not None}
    arguments["product"], arguments["product_type"] = arguments.pop("product_type"), arguments.pop("query_type")
    return (
        "from oda_api.api import DispatcherAPI\n"
        f"disp=DispatcherAPI(url='{products_url}/dispatch-data', instrument='mock')\n\n"
        f"par_dict={json.dumps(arguments, indent=4, sort_keys=True)}\n\n"
        "data_collection = disp.get_product(**par_dict)\n"
    )
