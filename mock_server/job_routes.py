"""The routes for jobs other than `run_analysis`: files, links, records, and reports of back ends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from mock_server.downloads import pack
from mock_server.job_folders import folder_name, is_file_name
from mock_server.job_id import job_id as computed_job_id
from mock_server.job_records import records
from mock_server.jobs import foreign_reason
from mock_server.request_context import RefusedError, constructor_failed
from mock_server.responses import ExitStatus, Response
from oda_proxy.errors import BadQueryError
from oda_proxy.fixture.json_files import ANSWER_FILE, QUERY_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mock_server.job_folders import JobFolders
    from mock_server.jobs import Job, JobTable, State
    from mock_server.request_context import RequestReader
    from mock_server.tokens import Token
    from mock_server.uploads import Uploads

_LINK_PARAMETERS: Final = ("job_id", "session_id", "token")
_ARCHIVE: Final = "download.tar.gz"
_RECORDS_ROLE: Final = "job manager"
_REPORTED_STATES: Final[dict[str, State]] = {"done": "ready", "failed": "failed"}


class NoFileError(BadQueryError):
    """A request for files that it may not have; `body` is the failed response."""

    http_status = 403

    def __init__(self, message: str, body: bytes) -> None:
        super().__init__(message)
        self.body = body


@dataclass(frozen=True)
class JobRoutes:
    """Answers requests about the jobs of a table."""

    jobs: JobTable
    reader: RequestReader
    folders: JobFolders | None = None

    async def files(self, arguments: Mapping[str, Any]) -> tuple[str, bytes, bool]:
        """Read the files of a job for `/download_products`.

        Returns
        -------
        Name of the download, its content, and whether it is one gzipped file.

        Raises
        ------
        RefusedError
            The request is incomplete, or there is no such job.
        NoFileError
            The job belongs to another token or session, or has no such file.
        """
        token = self.reader.token(arguments.get("token"))
        if "query_status" not in arguments:
            raise RefusedError("RequestNotUnderstood", constructor_failed("mock", "'query_status'"))
        job_id = str(arguments.get("job_id") or "")
        session_id = str(arguments.get("session_id"))
        job = self.jobs.by_id.get(job_id)
        self._check_owner(job_id, session_id, job, token)
        names = str(arguments.get("file_list", "")).split(",")
        download = str(arguments.get("download_file_name") or (names[0] if len(names) == 1 else _ARCHIVE))
        download = download.replace(" ", "_")
        contents = {}
        for name in names:
            content = await asyncio.to_thread(self._file, job_id, session_id, job, name)
            if content is None or not is_file_name(download):
                raise self._no_file(job_id, session_id, "No such file")
            contents[name] = content
        if arguments.get("return_archive") == "False" and len(contents) == 1:
            return download, contents[names[0]], False
        return download, await asyncio.to_thread(pack, contents, download), len(contents) == 1

    def _check_owner(self, job_id: str, session_id: str, job: Job | None, token: Token | None) -> None:
        """Raise RefusedError if there is no such job, or NoFileError if it is of another user."""
        if job is not None:
            if job.subject == (None if token is None else token.subject):
                return
            reason = job.foreign_reason(job_id, token)
        else:
            parameters = None if self.folders is None else self.folders.parameters(job_id)
            if parameters is None:
                raise RefusedError("InvalidJobIDProvided", f"unable to find any record for {job_id}")
            reason = foreign_reason(parameters, job_id, token)
            if computed_job_id(parameters, None if token is None else token.subject) == job_id:
                return
        raise self._no_file(job_id, session_id, "Request not authorized", reason)

    def _file(self, job_id: str, session_id: str, job: Job | None, name: str) -> bytes | None:
        """Return a file of the products of a job, for its session, or one in the folder of the session, or None."""
        of_products = set() if job is None else job.fixture.files.keys() - {QUERY_FILE, ANSWER_FILE}
        if job is not None and job.session_id == session_id and name in of_products:
            return job.fixture.read_file(name)
        return None if self.folders is None else self.folders.read(session_id, job_id, name)

    def uploaded_file(self, query: Mapping[str, str], uploads: Uploads) -> tuple[str, bytes, bool]:
        """Return an uploaded file as `files` does; raises RefusedError, or NoFileError if the user may not read it."""
        token = self.reader.token(query.get("token"))
        digest = query.get("file_list", "")
        content = uploads.content(digest, None if token is None else token.subject)
        if content is None:
            raise self._no_file(query.get("job_id", ""), query.get("session_id", ""), "No such file")
        name = query.get("download_file_name", digest)
        if query.get("return_archive", "True") == "True":
            return name, pack({digest: content}, name), True
        return name, content, False

    def _no_file(self, job_id: str, session_id: str, message: str, reason: str = "") -> NoFileError:
        body = Response(
            query_status="failed",
            exit_status=ExitStatus("failed", 1, message, debug_message=reason),
            job_monitor={"job_id": job_id, "session_id": session_id, "status": "failed"},
            session_id=session_id,
            time_request=self.reader.wall_clock(),
            http_status=NoFileError.http_status,
        ).body()
        return NoFileError(message, body)

    def link(self, query: Mapping[str, str], products_url: str) -> str:
        """Return the target of `/resolve-job-url`: the page of a job, or an error page."""
        expected = f"expected only and only these {list(_LINK_PARAMETERS)}"
        missing = [name for name in _LINK_PARAMETERS if name not in query]
        unexpected = [name for name in query if name not in _LINK_PARAMETERS]
        if missing or unexpected:
            message = f"NOT found expected parameters: {missing}, {expected}"
            if not missing:
                message = f"found unexpected parameters: {unexpected}, {expected}"
            return f"{products_url}?{urlencode({'error_message': message, 'status_code': 400})}"
        job = self.jobs.by_id.get(query["job_id"])
        if job is None or job.session_id != query["session_id"]:
            message = "TypeError(\"'NoneType' object is not iterable\")"
            return f"{products_url}?{urlencode({'error_message': message})}"
        shown = {name: value for name, value in job.echo.items() if name not in _LINK_PARAMETERS and value is not None}
        shown["use_scws"] = "form_list" if shown.get("scw_list") else "no"
        return f"{products_url}?{urlencode(shown)}"

    def records(self, query: Mapping[str, str]) -> dict[str, Any]:
        """List the jobs for `/inspect-state`; raises ServiceForbiddenError."""
        purpose = "to inspect the state for a given job_id"
        self.reader.service_token(query.get("token"), _RECORDS_ROLE, purpose=purpose)
        return self._records(self.jobs.jobs.values(), query)

    def user_records(self, query: Mapping[str, str]) -> dict[str, Any]:
        """List the jobs of the user of a token for `/inspect-user-state`; raises ServiceForbiddenError."""
        token = self.reader.service_token(query.get("token"), is_required=True)
        return self._records(
            [
                job
                for job in self.jobs.jobs.values()
                if job.token is not None and token is not None and job.subject == token.subject
            ],
            query,
        )

    def _records(self, jobs: Iterable[Job], query: Mapping[str, str]) -> dict[str, Any]:
        return {"records": records(jobs, query, clock=self.jobs.clock(), wall_clock=self.reader.wall_clock())}

    def call_back(self, query: Mapping[str, str]) -> dict[str, float]:
        """Store the report of a back end for `/call_back`; raises RefusedError.

        The job is then in the reported state, whatever the timeline of its fixture. As in the real dispatcher, no
        authentication is needed, and a job that does not exist is not an error.
        """
        if "job_id" not in query:
            raise RefusedError("RequestNotUnderstood", "job_id must be present during a call_back")
        self.reader.check_report_token(query.get("token"))
        job = self.jobs.by_id.get(query["job_id"])
        if job is not None:
            job.reported_state = _REPORTED_STATES.get(query.get("action", ""), "progress")
            job.failure = ""  # that of a failure by hand
            job.messages.append(dict(query))
            if self.folders is not None:
                self.folders.write_report(folder_name(job.session_id, job.job_id, is_aliased=False), query)
        return {"time_spent_s": 0.0}
