"""Changes a running mock by hand: states of jobs, faults, descriptions, and a new beginning."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from mock_server.request_log import public_arguments, without_tokens
from mock_server.scenarios import read_faults
from oda_proxy.errors import BadQueryError, CodecError
from oda_proxy.fixture import json_files
from oda_proxy.fixture.instrument_json import parse_instrument

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping
    from random import Random

    from mock_server.fixture_library import FixtureLibrary
    from mock_server.jobs import Job, JobTable, State
    from mock_server.request_log import RequestLog
    from mock_server.scenarios import Fault, FaultPlan

STATES: Final[dict[str, State]] = {
    "submitted": "submitted",
    "progress": "progress",
    "ready": "ready",
    "failed": "failed",
}
_ACTIONS: Final = {"submitted": "progress", "progress": "progress", "ready": "done", "failed": "failed"}
"""The action of a back end's report of each state."""
_MAX_MESSAGES: Final = 1000
_MAX_FAULTS: Final = 100
_MAX_INSTRUMENTS: Final = 1000
MAX_DESCRIPTION: Final = 4 * 2**20
"""Bytes of the description of an instrument."""
_NO_MESSAGE: Final = "failed by hand"


class ControlError(BadQueryError):
    """A change that the mock cannot make; `status` is that of the HTTP response."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Control:
    """What a person or a test reads and changes while the mock runs; `seed` and `first_faults` are those of its start.

    `counts` are cleared at a reset.
    """

    library: FixtureLibrary
    jobs: JobTable
    faults: FaultPlan
    log: RequestLog
    counts: tuple[Counter[str], ...]
    session_ids: Random
    seed: int
    first_faults: tuple[Fault, ...]

    def list_jobs(self) -> dict[str, Any]:
        """List the jobs in the order of their start."""
        jobs = [self._job_item(name, job) for name, job in self.jobs.by_name().items()]
        return {"hold": self.jobs.holds_jobs, "jobs": jobs}

    def hold(self, value: Any) -> dict[str, Any]:
        """Let jobs that start from now on wait for their state to be set, or no longer; raises ControlError."""
        if not isinstance(value, bool):
            raise ControlError(f"hold can be true or false, not {value!r}")
        self.jobs.holds_jobs = value
        return self.list_jobs()

    def job(self, name: str) -> dict[str, Any]:
        """Return one job; raises ControlError."""
        return self._job_item(name, self._find(name))

    def set_state(self, name: str, state: Any, message: Any = "") -> dict[str, Any]:
        """Set the state of a job, with a report of the back end if there is a message; None for that of its timeline.

        Raises ControlError.
        """
        job = self._find(name)
        if not isinstance(message, str):
            raise ControlError(f"the message should be a text, not {message!r}")
        if state is not None and (not isinstance(state, str) or state not in STATES):
            raise ControlError(f"a job cannot be {state!r}: use {', '.join(STATES)}, or null for its timeline")
        if len(job.messages) >= _MAX_MESSAGES:
            raise ControlError(f"the job {name} has {_MAX_MESSAGES} reports already: reset the mock", 409)
        job.is_held = state is not None
        job.reported_state = None if state is None else STATES[state]
        job.failure = (message or _NO_MESSAGE) if state == "failed" else ""
        job.fetched = job.fetched and state == "ready"
        if message and state is not None:
            job.messages.append(
                {
                    "job_id": job.job_id,
                    "session_id": job.session_id,
                    "scwid": "",
                    "node_id": f"node_{len(job.messages) + 1}",
                    "message": message,
                    "action": _ACTIONS[state],
                }
            )
        return self._job_item(name, job)

    def list_requests(self) -> dict[str, Any]:
        """List the last requests, oldest first, and count those that were dropped."""
        requests = [asdict(request) for request in self.log.requests]
        return {"dropped": self.log.count - len(requests), "requests": requests}

    def list_faults(self) -> dict[str, Any]:
        """List the faults, with the number of requests that each struck."""
        return {"faults": [self._fault_item(place) for place in range(len(self.faults.faults))]}

    def add_fault(self, table: Any) -> dict[str, Any]:
        """Add a fault, or switch the same one on again; raises ControlError, or UsageError if it is not valid."""
        (fault,) = read_faults([table])
        if fault not in self.faults.faults and len(self.faults.faults) >= _MAX_FAULTS:
            raise ControlError(f"there are {_MAX_FAULTS} faults already: reset the mock, or switch one on again", 409)
        return self._fault_item(self.faults.add(fault))

    def switch_fault(self, number: str, value: Any) -> dict[str, Any]:
        """Switch a fault on or off; raises ControlError."""
        numbers = {str(place + 1): place for place in range(len(self.faults.faults))}
        if number not in numbers:
            raise ControlError(f"there is no fault {number[:40]!r}: there are {len(numbers)}, counted from 1", 404)
        if not isinstance(value, bool):
            raise ControlError(f"active can be true or false, not {value!r}")
        if value:
            self.faults.switch_on(numbers[number])
        else:
            self.faults.switched_off.add(numbers[number])
        return self._fault_item(numbers[number])

    def list_instruments(self) -> dict[str, Any]:
        """Name the instruments."""
        return {"instruments": self.library.instruments}

    def describe(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Add or replace the description of an instrument (fixtures/README.md), and forget its jobs.

        Raises ControlError.
        """
        try:
            content = json.dumps({"format": json_files.FORMAT, **document}).encode()
            instrument = parse_instrument(json_files.parse(content, limit=MAX_DESCRIPTION))
            json_files.check_path(instrument.name, parts=1)
        except (CodecError, RecursionError) as error:
            raise ControlError(f"the description cannot be read: {error}") from None
        if not instrument.queries:
            raise ControlError("the description has no query")
        if instrument.name not in self.library.descriptions and len(self.library.descriptions) >= _MAX_INSTRUMENTS:
            raise ControlError(f"there are {_MAX_INSTRUMENTS} instruments already: reset the mock", 409)
        replaced = self.library.describe(instrument)
        self.jobs.forget_instrument(instrument.name)
        return {"instrument": instrument.name, "replaced": replaced}

    def reset(self) -> dict[str, Any]:
        """Forget all jobs and requests, and begin again as at the start: faults, descriptions and random numbers."""
        self.library.reset()
        self.jobs.reset()
        self.log.reset()
        for counter in self.counts:
            counter.clear()
        self.session_ids.seed(self.seed)
        self.faults.reset(self.first_faults, self.seed)
        return {"reset": True}

    def _find(self, name: str) -> Job:
        job = self.jobs.by_name().get(name)
        if job is None:
            raise ControlError(f"there is no job {name[:40]!r}: GET /-/jobs lists them", 404)
        return job

    def _job_item(self, name: str, job: Job) -> dict[str, Any]:
        parameters: Mapping[str, str] = public_arguments(job.echo)
        return {
            "id": name,
            "job_id": job.job_id,
            "session_id": without_tokens(job.session_id),
            "state": job.state(self.jobs.clock()),
            "by_hand": job.is_held,
            "instrument": parameters.get("instrument", ""),
            "product": parameters.get("product_type", ""),
            "parameters": parameters,
            "polls": job.polls,
            "messages": [without_tokens(str(report.get("message", ""))) for report in job.messages],
        }

    def _fault_item(self, place: int) -> dict[str, Any]:
        return {
            "number": place + 1,
            "fault": self.faults.faults[place].table(),
            "active": place not in self.faults.switched_off,
            "struck": self.faults.struck[place],
        }
