"""The records of jobs that `/inspect-state` and `/inspect-user-state` list, as dispatcher 1.3.6 writes them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from mock_server.job_folders import folder_name, report_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mock_server.jobs import Job

_SHORT_ID: Final = 8
_TOKEN: Final = "token"  # noqa: S105 - the name of a member


def records(jobs: Iterable[Job], query: Mapping[str, str], *, clock: float, wall_clock: float) -> list[dict[str, Any]]:
    """Return a record for each session of each job, or with `group_by_job` one for each job.

    Parameters
    ----------
    jobs
        The jobs to list.
    query
        Of the request: `job_id` (its first 8 digits), `group_by_job`, `exclude_analysis_parameters`,
        `include_session_log` and `include_status_query_output`, each `True` or not.
    clock, wall_clock
        Time of the states of jobs, in s, and Unix time, for the expiry of tokens.
    """
    found: list[dict[str, Any]] = []
    for job in jobs:
        if query.get("job_id") not in (None, job.job_id[:_SHORT_ID]):
            continue
        state = job.state(clock)
        status = "done" if state == "ready" else state
        expired = (
            {} if job.token is None else {"token_expired": bool(job.token.claims.get("exp", wall_clock) < wall_clock)}
        )
        common = {"request_completed": status == "done", **expired}
        contents = {session: _content(job, session, status, query) for session in (job.session_id, *job.other_sessions)}
        if query.get("group_by_job") == "True":
            data = [
                {**common, "scratch_dir_fn": _folder(job, session), "scratch_dir_content": content}
                for session, content in contents.items()
            ]
            found.append({"job_id": job.job_id, "job_status_data": data})
            continue
        found += [
            {
                "mtime": job.time_request,
                "ctime": job.time_request,
                "session_id": session,
                "job_id": job.job_id,
                "aliased_marker": "" if session == job.session_id else "_aliased",
                **common,
                **content,
            }
            for session, content in contents.items()
        ]
    return found


def _folder(job: Job, session_id: str) -> str:
    return folder_name(session_id, job.job_id, is_aliased=session_id != job.session_id)


def _content(job: Job, session_id: str, status: str, query: Mapping[str, str]) -> dict[str, Any]:
    """Return what the dispatcher reads in the folder of a job."""
    folder = _folder(job, session_id)
    content: dict[str, Any] = {}
    if query.get("exclude_analysis_parameters") != "True":
        shown = {name: value for name, value in job.echo.items() if name != _TOKEN and value is not None}
        content["analysis_parameters"] = shown if job.token is None else {**shown, _TOKEN: dict(job.token.claims)}
    monitor: dict[str, Any] = {"job_id": job.job_id, "session_id": job.session_id, "status": status}
    monitors = {f"{folder}/job_monitor.json": monitor}
    for report in job.messages:
        name = f"{folder}/{report_file(report)}"
        monitors[name] = {**monitor, "status": report.get("action", "unknown"), "full_report_dict": report}
    files = [f"{folder}/{name}" for name in ("analysis_parameters.json", "query_output.json")]
    content["file_list"] = [*files, *monitors]
    if query.get("include_session_log") == "True":
        content["session_log"] = ""
    content |= {"email_history": [], "matrix_message_history": [], "fits_files": []}
    if query.get("include_status_query_output") == "True":
        content["status_query_output"] = {"job_status": status, "status": int(status == "failed")}
    content["job_monitor"] = [
        {
            "ctime": job.time_request,
            "ctime_isot": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(job.time_request)),
            "fn": name,
            "job_monitor_content": monitor_content,
        }
        for name, monitor_content in monitors.items()
    ]
    return content
