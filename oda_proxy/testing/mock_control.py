"""Controls a mock dispatcher that runs, in this process or another, through its routes below `/-/` (docs/mock.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http.client import HTTPException
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, SupportsIndex, TypeVar, overload
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")

_TIMEOUT: Final = 30.0
"""Time, in s, after which a mock that does not respond is an error."""
_LARGEST_RESPONSE: Final = 2**30
_LARGEST_PROBLEM: Final = 2**16
_PROBLEM_TYPE: Final = "urn:oda-proxy:mock-control"
_MEMBERS: Final = {"jobs": {"hold", "jobs"}, "requests": {"dropped", "requests"}, "faults": {"faults"}}
"""The members of each list, by which a mock is distinguished from a proxy."""


@dataclass(frozen=True)
class MockRequest:
    """A request that the mock received.

    Attributes
    ----------
    number
        Of the request, counted from 1 since the start or the last reset.
    method, path
        As in the request; the path is without the query string.
    arguments
        Of query string and form, as texts, without tokens.
    files
        Sizes of uploaded files, in bytes, by their names.
    fault
        The kind of the fault that struck the request, or None.
    status
        HTTP status of the response; None if there was none yet.
    """

    number: int
    method: str
    path: str
    arguments: Mapping[str, str]
    files: Mapping[str, int]
    fault: str | None
    status: int | None


@dataclass(frozen=True)
class MockJob:
    """A job of the mock, as it was when it was read; the methods set its state, which clients see at their next poll.

    Attributes
    ----------
    id
        Unique among the jobs of the mock: the `job_id`, with a number if two jobs have the same.
    state
        `submitted`, `progress`, `ready`, `done` once the products were fetched, or `failed`.
    by_hand
        Whether the state was set, and does not follow the timeline of the fixture.
    parameters
        Of the query, as texts, without tokens.
    polls
        Number of polls so far.
    messages
        Of the reports, oldest first.
    """

    id: str
    job_id: str
    session_id: str
    state: str
    by_hand: bool
    instrument: str
    product: str
    parameters: Mapping[str, str]
    polls: int
    messages: list[str]
    _control: MockControl = field(repr=False, compare=False)

    def submit(self, message: str = "") -> MockJob:
        """Put the job into the queue, and return it."""
        return self._set("submitted", message)

    def progress(self, message: str = "") -> MockJob:
        """Let the job be in progress, with a report if there is a message, and return it."""
        return self._set("progress", message)

    def finish(self, message: str = "") -> MockJob:
        """Let the job have its products ready, and return it."""
        return self._set("ready", message)

    def fail(self, message: str = "") -> MockJob:
        """Let the job fail with a message that clients show, and return it."""
        return self._set("failed", message)

    def follow_timeline(self) -> MockJob:
        """Let the state be that of the timeline of its fixture again, and return the job."""
        return self._set(None, "")

    def _set(self, state: str | None, message: str) -> MockJob:
        item = self._control.call(f"jobs/{quote(self.id, safe='')}", {"state": state, "message": message})
        return MockJob(**item, _control=self._control)


@dataclass(frozen=True)
class MockFault:
    """A fault of the mock, as it was when it was read; `fault` is its table, and `struck` counts requests."""

    number: int
    fault: Mapping[str, Any]
    active: bool
    struck: int
    _control: MockControl = field(repr=False, compare=False)

    def switch_off(self) -> MockFault:
        """Let the fault strike no more, and return it."""
        return self._switch(active=False)

    def switch_on(self) -> MockFault:
        """Let the fault strike, with its requests counted from now, and return it."""
        return self._switch(active=True)

    def _switch(self, *, active: bool) -> MockFault:
        return MockFault(**self._control.call(f"faults/{self.number}", {"active": active}), _control=self._control)


class _Numbered(list[T]):
    """The jobs, requests or faults of a mock: an index that is too large says how many there are."""

    def __init__(self, name: str, items: Iterable[T]) -> None:
        super().__init__(items)
        self._name = name

    @overload
    def __getitem__(self, index: SupportsIndex) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> T | list[T]:
        try:
            return super().__getitem__(index)
        except IndexError:
            raise IndexError(f"the mock has {len(self)} {self._name} so far, counted from 0: none is {index}") from None


@dataclass(frozen=True)
class MockControl:
    """The control of the mock dispatcher at a URL; every property reads its current state.

    Every property and method raises UsageError if the mock does not respond, or refuses the change.
    """

    url: str

    @property
    def jobs(self) -> list[MockJob]:
        """The jobs, in the order in which they were started; a job that is restarted keeps its place."""
        return self._list("jobs", lambda item: MockJob(**item, _control=self))

    @property
    def requests(self) -> list[MockRequest]:
        """The last thousand requests, oldest first, without those for the routes of the mock itself."""
        return self._list("requests", lambda item: MockRequest(**item))

    @property
    def faults(self) -> list[MockFault]:
        """The faults, those of the scenario first."""
        return self._list("faults", lambda item: MockFault(**item, _control=self))

    def hold_jobs(self, *, hold: bool = True) -> None:
        """Let jobs that start from now on stay submitted until their state is set; with `hold=False`, no longer."""
        self.call("jobs", {"hold": hold})

    def add_fault(self, **table: Any) -> MockFault:
        """Add a fault, and return it: `add_fault(do="status", status=503, on=[1])` (docs/mock.md).

        Requests are counted from now. A fault that the mock has already is switched on again.
        """
        return MockFault(**self.call("faults", table), _control=self)

    def describe(self, description: Mapping[str, Any] | str | PathLike[str]) -> str:
        """Add the description of an instrument, or replace it and forget its jobs, and return the instrument's name.

        Parameters
        ----------
        description
            The JSON object of an instrument.json (fixtures/README.md), or the path of a file with one.
        """
        document = _read_json(Path(description)) if isinstance(description, str | PathLike) else description
        return str(self.call("instruments", document)["instrument"])

    def reset(self) -> None:
        """Let the mock begin again: without jobs and requests, and with the faults and descriptions of its start."""
        self.call("reset", {})

    def _list(self, name: str, make: Callable[[Any], T]) -> list[T]:
        """Return the items of a list of the mock."""
        answer = self.call(name)
        if not isinstance(answer, dict) or set(answer) != _MEMBERS[name]:
            raise UsageError(f"{self.url}/-/{name} is not that of a mock dispatcher")
        return _Numbered(name, [make(item) for item in answer[name]])

    def call(self, route: str, body: Mapping[str, Any] | None = None) -> Any:
        """Get a route below `/-/`, or post a body to it, and return the JSON of the response."""
        url = f"{self.url.rstrip('/')}/-/{route}"
        try:
            data = None if body is None else json.dumps(body).encode()
            request = Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 - the user chose the address
            with build_opener(ProxyHandler({})).open(request, timeout=_TIMEOUT) as response:
                return json.loads(response.read(_LARGEST_RESPONSE))
        except HTTPError as error:
            with error:
                raise UsageError(_reason(error)) from None
        except (TypeError, RecursionError) as error:
            raise UsageError(f"not JSON: {error}") from None
        except (OSError, HTTPException, ValueError) as error:
            raise UsageError(f"there is no mock dispatcher at {self.url}: {error}") from None


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file}: no description can be read: {error}") from None


def _reason(error: HTTPError) -> str:
    """Return what the problem of a mock says (RFC 9457), or that the server is not a mock."""
    try:
        problem = json.loads(error.read(_LARGEST_PROBLEM))
    except (ValueError, OSError):
        problem = None
    if isinstance(problem, dict) and problem.get("type") == _PROBLEM_TYPE:
        return str(problem.get("title"))
    return f"{error.url} is not a route of a mock dispatcher: status {error.code}"
