"""Writes a folder for each job as a dispatcher does, for suites that read these folders."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mock_server.responses import Response

log = logging.getLogger(__name__)

_PARAMETERS: Final = "analysis_parameters.json"
_MONITOR: Final = "job_monitor"
_MAX_NAME: Final = 200
_UNSAFE: Final = re.compile(r"[\s/\x00]")
_FLAGGED_INSTRUMENTS: Final = frozenset({"isgri", "jemx", "empty-async"})
"""Instruments whose reports have files of their own; other reports replace `job_monitor.json`."""


def folder_name(session_id: str, job_id: str, *, is_aliased: bool) -> str:
    """Return the name of the folder that a session has for a job; it is aliased if another one started the job."""
    return _file_name(f"scratch_sid_{session_id}_jid_{job_id}") + ("_aliased" if is_aliased else "")


def is_file_name(name: str) -> bool:
    """Return whether a name is that of a file in its folder."""
    return bool(name) and not {"/", "\\", "\0"} & set(name) and name not in (".", "..")


def report_file(report: Mapping[str, Any]) -> str:
    """Return the name of the file of a back end's report."""
    flags = [str(report[part]) for part in ("node_id", "message") if part in report]
    if report.get("instrument_name") not in _FLAGGED_INSTRUMENTS or not flags:
        return f"{_MONITOR}.json"
    return _file_name("_".join((_MONITOR, *flags, ""))) + ".json"


@dataclass(frozen=True)
class JobFolders:
    """The folders of the jobs below `root`; a file that cannot be written is logged."""

    root: Path

    def write_response(
        self,
        name: str,
        response: Response,
        products: bytes,
        parameters: Mapping[str, Any],
        uploaded: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        """Write the parameters of a query, the state of its job and its result, after a request that ran the query.

        Parameters
        ----------
        name
            Of the folder.
        response
            The response to the request.
        products
            The members with data, as JSON without braces.
        parameters
            Those of the query.
        uploaded
            Files of the request, by name.
        """
        files = {
            **uploaded,
            **({} if (self.root / name / _PARAMETERS).exists() else {_PARAMETERS: json.dumps(parameters).encode()}),
            f"{_MONITOR}.json": json.dumps(response.job_monitor).encode(),
            "query_output.json": response.query_output(products),
        }
        self._write(name, files)

    def write_report(self, name: str, report: Mapping[str, str]) -> None:
        """Write the report of a back end."""
        content = {
            "status": report.get("action", "unknown"),
            "job_id": report.get("job_id"),
            "session_id": report.get("session_id"),
            "full_report_dict": dict(report),
        }
        self._write(name, {report_file(report): json.dumps(content).encode()})

    def parameters(self, job_id: str) -> dict[str, Any] | None:
        """Return the parameters in a folder of a job, also one that a suite has made; None if there is no folder."""
        if _UNSAFE.search(job_id) or not job_id.isalnum():
            return None
        for file in sorted(self.root.glob(f"scratch_sid_*_jid_{job_id}*/{_PARAMETERS}")):
            try:
                document = json.loads(file.read_bytes())
            except (OSError, ValueError):
                continue
            if isinstance(document, dict):
                return document
        return None

    def read(self, session_id: str, job_id: str, name: str) -> bytes | None:
        """Return a file in the folder that a session has for a job, or None if there is none in it."""
        if not is_file_name(name):
            return None
        for is_aliased in (False, True):
            file = self.root / folder_name(session_id, job_id, is_aliased=is_aliased) / name
            try:
                return file.read_bytes()
            except (OSError, ValueError):
                continue
        return None

    def _write(self, name: str, files: Mapping[str, bytes]) -> None:
        folder = self.root / name
        try:
            folder.mkdir(exist_ok=True)
            for file, content in files.items():
                (folder / file).write_bytes(content)
        except OSError as error:
            log.warning("the folder of a job cannot be written: %s", error)


def _file_name(text: str) -> str:
    """Return a text as the name of a file in its folder."""
    return _UNSAFE.sub("_", text)[:_MAX_NAME]
