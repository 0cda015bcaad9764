"""The routes about jobs beside `run_analysis`: files, links, records, and reports of back ends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from mock_server.answers import Answer, ExitStatus
from mock_server.asking import RefusedError, constructor_failed
from mock_server.downloads import pack
from oda_proxy.errors import BadQueryError
from oda_proxy.fixture.json_files import ANSWER_FILE, QUERY_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mock_server.asking import Reception
    from mock_server.jobs import Job, JobTable, State

_LINK_PARAMETERS: Final = ("job_id", "session_id", "token")
_RECORDS_ROLE: Final = "job manager"
_SHORT_ID: Final = 8
_STATES_TOLD: Final[dict[str, State]] = {"done": "ready", "failed": "failed"}


class NoFileError(BadQueryError):
    """Files that a request may not have; `body` is the failed answer that says so."""

    http_status = 403

    def __init__(self, message: str, body: bytes) -> None:
        super().__init__(message)
        self.body = body


@dataclass(frozen=True)
class JobRoutes:
    """Answers questions about the jobs of a table."""

    jobs: JobTable
    reception: Reception

    async def files(self, arguments: Mapping[str, Any]) -> tuple[str, bytes, bool]:
        """Collect the files of a job for `/download_products`.

        Returns
        -------
        Name of the download, its content, and whether that is packed.

        Raises
        ------
        RefusedError
            The request is incomplete, or there is no such job.
        NoFileError
            The job belongs to another token or session, or has no such file.
        """
        token = self.reception.token(arguments.get("token"))
        if "query_status" not in arguments:
            raise RefusedError("RequestNotUnderstood", constructor_failed("mock", "'query_status'"))
        job_id = str(arguments.get("job_id") or "")
        job = self.jobs.by_id.get(job_id)
        if job is None:
            raise RefusedError("InvalidJobIDProvided", f"unable to find any record for {job_id}")
        session_id = str(arguments.get("session_id"))
        if job.subject != (None if token is None else token.subject):
            raise self._no_file(job_id, session_id, "Request not authorized")
        names = str(arguments.get("file_list", "")).split(",")
        files = job.fixture.files.keys() - {QUERY_FILE, ANSWER_FILE}
        if session_id != job.session_id or not files.issuperset(names):
            raise self._no_file(job_id, session_id, "No such file")
        contents = {name: await asyncio.to_thread(job.fixture.read_file, name) for name in names}
        download = str(arguments.get("download_file_name") or names[0])
        if arguments.get("return_archive") == "False" and len(contents) == 1:
            return download, contents[names[0]], False
        return download, await asyncio.to_thread(pack, contents), True

    def _no_file(self, job_id: str, session_id: str, message: str) -> NoFileError:
        body = Answer(
            query_status="failed",
            exit_status=ExitStatus("failed", 1, message),
            job_monitor={"job_id": job_id, "session_id": session_id, "status": "failed"},
            session_id=session_id,
            time_request=self.reception.wall_clock(),
            http_status=NoFileError.http_status,
        ).body()
        return NoFileError(message, body)

    def link(self, query: Mapping[str, str], products_url: str) -> str:
        """Return where `/resolve-job-url` leads: to the page of a job, or to one that shows an error."""
        expected = f"expected only and only these {list(_LINK_PARAMETERS)}"
        missing = [name for name in _LINK_PARAMETERS if name not in query]
        strange = [name for name in query if name not in _LINK_PARAMETERS]
        if missing or strange:
            message = f"NOT found expected parameters: {missing}, {expected}"
            if not missing:
                message = f"found unexpected parameters: {strange}, {expected}"
            return f"{products_url}?{urlencode({'error_message': message, 'status_code': 400})}"
        job = self.jobs.by_id.get(query["job_id"])
        if job is None or job.session_id != query["session_id"]:
            message = "TypeError(\"'NoneType' object is not iterable\")"
            return f"{products_url}?{urlencode({'error_message': message})}"
        shown = {name: value for name, value in job.echo.items() if name not in _LINK_PARAMETERS and value is not None}
        shown["use_scws"] = "form_list" if shown.get("scw_list") else "no"
        return f"{products_url}?{urlencode(shown)}"

    def records(self, query: Mapping[str, str]) -> dict[str, Any]:
        """List the jobs for `/inspect-state`; raises ServiceClosedError."""
        self.reception.service_token(query.get("token"), _RECORDS_ROLE)
        jobs = [job for job in self.jobs.jobs.values() if query.get("job_id") in (None, job.job_id[:_SHORT_ID])]
        return {"records": [_record(job) for job in jobs]}

    def call_back(self, query: Mapping[str, str]) -> dict[str, float]:
        """Note what a back end reports of a job, for `/call_back`; raises RefusedError.

        The job is then in the reported state, whatever the times of its fixture. As at the real one nobody has to
        prove anything, and a job that does not exist is no error.
        """
        if "job_id" not in query:
            raise RefusedError("RequestNotUnderstood", "job_id must be present during a call_back")
        self.reception.reporter(query.get("token"))
        job = self.jobs.by_id.get(query["job_id"])
        if job is not None:
            job.told = _STATES_TOLD.get(query.get("action", ""), "progress")
            job.messages.append(dict(query))
        return {"time_spent_s": 0.0}


def _record(job: Job) -> dict[str, Any]:
    shown = {name: value for name, value in job.echo.items() if name != "token" and value is not None}
    return {
        "aliased_marker": "",
        "analysis_parameters": {**shown, "email_history": [], "fits_files": [], "job_monitor": []},
        "ctime": job.time_request,
        "job_id": job.job_id,
        "mtime": job.time_request,
        "session_id": job.session_id,
    }
