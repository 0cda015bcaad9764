"""What a client is told of a job that still runs: the dispatcher's reports without their asker, and our own remark."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.recordings.redaction import NotStorableError, check_no_secrets, collect_secrets, redact_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oda_proxy.query.query import Envelope

MOST_REPORTS: Final = 1000
"""Reports of one job that are told: the last ones."""

_REPORT: Final[Mapping[str, str]] = {"node": "none", "message": "none", "scwid": "none"}
"""What clients look for in a report; version 1.1.0 ends with an error where it is not there."""

_TOLD: Final = frozenset({*_REPORT, "action", "node_id", "progress", "progressing", "stage", "substage"})
"""What of a report is about the job, and not about who asked."""


def reports_of(answer: Mapping[str, Any], envelope: Envelope) -> tuple[Mapping[str, Any], ...]:
    """Give the reports in an answer to `envelope`, in their order, as anyone who waits for the job may see them.

    Call-backs repeat the request with its token: what is on a list is told, and nothing in which the asker shows.
    """
    monitor = answer.get("job_monitor")
    told = monitor.get("full_report_dict_list") if isinstance(monitor, dict) else None
    if not isinstance(told, list):
        return ()
    reports = [_report(report) for report in told[-MOST_REPORTS:] if isinstance(report, dict)]
    known = collect_secrets(envelope, monitor)
    return tuple(report for report in reports if _is_anyones(report, known))


def _report(report: Mapping[str, Any]) -> Mapping[str, Any]:
    told = {name: value for name, value in report.items() if name in _TOLD and isinstance(value, str | int | float)}
    return {**_REPORT, **redact_value(told)}


def _is_anyones(report: Mapping[str, Any], known: Any) -> bool:
    try:
        check_no_secrets([dict(report)], known)
    except NotStorableError:
        return False
    return True


def running(
    status: str,
    envelope: Envelope,
    *,
    job_id: str,
    reports: Sequence[Mapping[str, Any]],
    comment: str,
    urgent: bool = False,
    now: float,
) -> bytes:
    """Say that a job runs, so that every generation of the client asks on.

    `status` is `submitted` or `progress`; `now` is in s since 1970 (UTC), as the dispatcher's `time_request`. While a
    job runs clients show no comment, but the last report, if any: an `urgent` comment is that, too.
    """
    if comment:
        ours = {**_REPORT, "node": "oda-proxy", "message": comment.removeprefix("oda-proxy: ")}
        reports = [*reports, ours] if urgent else [ours, *reports]
    told = {
        "query_status": status,
        "products": {},
        "exit_status": {
            "status": 0,
            "message": "",
            "error_message": "",
            "debug_message": "",
            "comment": comment,
            "warning": "",
            "job_status": status,
        },
        "job_monitor": {
            "job_id": job_id,
            "session_id": envelope.session_id,
            "status": status,
            "comment": comment,
            "full_report_dict_list": [
                {**report, "job_id": job_id, "session_id": envelope.session_id} for report in reports
            ],
        },
        "job_status": status,
        "session_id": envelope.session_id,
        "time_request": now,
    }
    return json.dumps(told, separators=(",", ":")).encode("ascii")
