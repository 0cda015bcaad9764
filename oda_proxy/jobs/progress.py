"""The answer to a client while its job runs: the dispatcher's reports without the client that caused them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.recordings.leak_check import check_no_secrets, collect_secrets
from oda_proxy.recordings.redaction import NotStorableError, redact_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oda_proxy.query.query import Envelope

MAX_REPORTS: Final = 1000
"""Reports of one job that are sent: the last ones."""

_REPORT: Final[Mapping[str, str]] = {"node": "none", "message": "none", "scwid": "none"}
"""Members that clients look for in a report; version 1.1.0 ends with an error without them."""

_PUBLIC: Final = frozenset({*_REPORT, "action", "node_id", "progress", "progressing", "stage", "substage"})
"""Members of a report that are about the job, and not about the client."""


def public_reports(answer: Mapping[str, Any], envelope: Envelope) -> tuple[Mapping[str, Any], ...]:
    """Return the reports in an answer to `envelope`, in their order, as any client of the job may see them.

    Call-backs repeat the request with its token: only listed members pass, and no report that still names the client.
    """
    names = collect_secrets(envelope, answer.get("job_monitor"))
    return tuple(report for report in map(_report, _reports(answer)) if _is_public(report, names))


def owner_reports(answer: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the reports in an answer as the owner of the job may see them.

    That is all that the computing nodes report. The names of a client are removed all the same: they are those of
    another one where the dispatcher already ran the job.
    """
    return tuple(redact_value(report) for report in _reports(answer))


def _reports(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    monitor = answer.get("job_monitor")
    found = monitor.get("full_report_dict_list") if isinstance(monitor, dict) else None
    return [report for report in found[-MAX_REPORTS:] if isinstance(report, dict)] if isinstance(found, list) else []


def _report(report: Mapping[str, Any]) -> Mapping[str, Any]:
    public = {name: value for name, value in report.items() if name in _PUBLIC and isinstance(value, str | int | float)}
    return {**_REPORT, **redact_value(public)}


def _is_public(report: Mapping[str, Any], names: Any) -> bool:
    try:
        check_no_secrets([dict(report)], names)
    except NotStorableError:
        return False
    return True


def running_answer(
    status: str,
    envelope: Envelope,
    *,
    job_id: str,
    reports: Sequence[Mapping[str, Any]],
    comment: str,
    notices: Mapping[str, str] | None = None,
    products: Mapping[str, Any] | None = None,
    urgent: bool = False,
    now: float,
) -> bytes:
    """Return the JSON of an answer that makes every release of the client poll again.

    `status` is `submitted` or `progress`; `now` is in s since 1970 (UTC), as the dispatcher's `time_request`. While a
    job runs clients show no comment but the last report, if any: an `urgent` comment is the last report, too. The
    `notices` are members of `exit_status`, and the `products` those that the dispatcher sent before the job has any.
    """
    names = {"job_id": job_id, "session_id": envelope.session_id}
    last_report = {"full_report_dict": {**_REPORT, **reports[-1], **names}} if reports else {}
    if comment:
        report = {**_REPORT, "node": "oda-proxy", "message": comment.removeprefix("oda-proxy: ")}
        reports = [*reports, report] if urgent else [report, *reports]
    notices = notices or {}
    comment = "; ".join(filter(None, (notices.get("comment"), comment)))
    answer = {
        "query_status": status,
        "products": products or {},
        "exit_status": {
            "status": 0,
            "message": "",
            "error_message": "",
            "debug_message": "",
            "warning": "",
            **notices,
            "comment": comment,
            "job_status": status,
        },
        "job_monitor": {
            **names,
            "status": status,
            "comment": comment,
            **last_report,
            "full_report_dict_list": [{**_REPORT, **report, **names} for report in reports],
        },
        "job_status": status,
        "session_id": envelope.session_id,
        "time_request": now,
    }
    return json.dumps(answer, separators=(",", ":")).encode("ascii")
