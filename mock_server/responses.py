"""Bodies of responses, member by member as dispatcher 1.3.6 writes them."""

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
    """The member `exit_status`: the result of a request."""

    job_status: str
    status: int = 0
    message: str = ""
    error_message: str = ""
    debug_message: str = ""
    comment: str = ""
    warning: str = ""


@dataclass(frozen=True)
class Response:
    """A response without its data products.

    Attributes
    ----------
    bookkeeping
        Members of `products` after the data products.
    extra
        Members after all others.
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
        """Return the body as the dispatcher writes it: compact ASCII JSON in this order, and a newline.

        `products` are the members of `products` with data, as JSON without braces; they are not parsed.
        """
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
        return head + self._members(products) + b"}," + compact(tail)[1:] + b"\n"

    def query_output(self, products: bytes = b"") -> bytes:
        """Return what the dispatcher writes to a file about a query that ran: `exit_status` and `products`."""
        status = compact(vars(self.exit_status))
        return b'{"status_dictionary":' + status + b',"prod_dictionary":{' + self._members(products) + b"}}"

    def _members(self, products: bytes) -> bytes:
        return b",".join(part for part in (products, compact(self.bookkeeping)[1:-1]) if part)


def compact(value: Any) -> bytes:
    """Return JSON without blanks, with NaN as NaN, as the dispatcher writes it."""
    return json.dumps(value, separators=(",", ":")).encode()


def error_body(
    kind: str | None, message: str, *, instruments: Sequence[str], products_url: str, debug_message: str | None = None
) -> bytes:
    """Return the body for a request that the dispatcher rejects before it runs a query (400, 403 or 500).

    `kind` is the name of its exception; None for an exception that it does not expect (500).

    Like the real one it contains a configuration, here an invented one; a proxy should remove it.
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


def failed_body(message: str, *, job_id: str, session_id: str, comment: str = "") -> bytes:
    """Return the body of a failed query in a form that every client release shows at once."""
    return Response(
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
    """Return the member `job_monitor` of a response.

    While the job runs it contains the reports of the back end, oldest first: call-backs as received, otherwise invented
    ones like those of the INTEGRAL plugins, the first one twice. These name the session that started the job, and its
    token.
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
    """Return the Python code that repeats a query, as the dispatcher writes it, token included."""
    arguments = {name: value for name, value in echo.items() if name not in _NOT_IN_CODE and value is not None}
    arguments["product"], arguments["product_type"] = arguments.pop("product_type"), arguments.pop("query_type")
    return (
        "from oda_api.api import DispatcherAPI\n"
        f"disp=DispatcherAPI(url='{products_url}/dispatch-data', instrument='mock')\n\n"
        f"par_dict={json.dumps(arguments, indent=4, sort_keys=True)}\n\n"
        "data_collection = disp.get_product(**par_dict)\n"
    )
