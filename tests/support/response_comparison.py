"""Compares the responses of the mock and a real dispatcher, and writes fixtures for the mock from the real one."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from mock_server.parameters import CONTROL_ARGUMENTS, read_arguments
from oda_proxy.fixture.writing import write_manifest
from tests.support.mock_fixtures import ORIGIN, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from tests.support.mock_requests import Request

INSTRUMENTS = ("empty", "empty-async", "empty-semi-async")
"""The instruments of the real dispatcher's dummy plugin."""

_NO_PARAMETERS = (CONTROL_ARGUMENTS - {"catalog_selected_objects"}) | {"dry_run"}
_WINDOWS = "user_scw_list_file"
_BOUNDARY = "a-boundary-of-a-test"
_JSON = "application/json"
# Members that differ between servers or runs: configuration, releases, times, and addresses.
_NEVER_EQUAL = frozenset(
    {"config", "cdci_data_analysis_version", "oda_api_version", "cdci_data_analysis_version_details", "debug_mode"}
    | {"api_code"}  # repeats the parameters
    | {
        "time_request",
        "time_spent_s",
        "time_original_request",
        "work_dir",
        "file_name",
        "ctime",
        "mtime",
        "call_back_url",
    }
)
# Prefixes of members that follow from another member.
_FOLLOWING = {
    "status": ("",),
    "error_message": ("",),
    "job_status": ("exit_status.job_status", "job_monitor.status", "query_status", "products"),
    "products": ("products.", "exit_status."),
    "products.analysis_parameters.RA": ("products.job_id", "job_monitor.job_id"),
    "job_monitor.session_id": ("products.session_id",),
    "type": ("text", "body"),
}


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    kind: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def job_id(self) -> str | None:
        """The job id in the response."""
        try:
            found = json.loads(self.body)["job_monitor"]["job_id"]
        except (ValueError, LookupError, TypeError):
            return None
        return str(found)


class Client:
    """Sends requests to one server, and stores the job ids of its responses."""

    def __init__(self, url: str) -> None:
        self.address = urlsplit(url).netloc
        self.jobs: dict[str, str] = {}

    def ask(self, request: Request) -> Answer:
        """Send a request without normalising its path."""
        query = request.query
        if request.job_of is not None:
            query = (*query, ("job_id", self.jobs[request.job_of]))
        path = f"{request.path}?{urlencode(query)}" if query else request.path
        body, headers = _body(request)
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            connection.request(request.method, path, body, headers)
            response = connection.getresponse()
            response_headers = {name.lower(): value for name, value in response.getheaders()}
            answer = Answer(response.status, response.headers.get_content_type(), response_headers, response.read())
        finally:
            connection.close()
        if answer.job_id is not None:
            self.jobs[request.name] = answer.job_id
        return answer

    def facts(self, request: Request, answer: Answer) -> dict[str, Any]:
        """Return what is compared: status, type, and every member of a JSON response, or the words of another one."""
        facts: dict[str, Any] = {"status": answer.status, "type": answer.kind}
        if answer.status in {301, 302}:
            target = urlsplit(answer.headers.get("location", ""))
            facts["location"] = [target.path, dict(sorted(parse_qsl(target.query)))]
            return facts
        if answer.kind == _JSON and answer.body:
            document = json.loads(answer.body)
            facts |= dict(_members(document, "")) if isinstance(document, dict) else {"body": _plain(document)}
        else:
            facts["text"] = re.sub(r"<[^>]*>|\s+", " ", answer.body.decode()).split()
        if "allow" in answer.headers:
            facts["allow"] = sorted(answer.headers["allow"].replace(" ", "").split(","))
        changing = [self.address, *_made_sessions(request, facts)]
        return {name: _without(changing, value) for name, value in facts.items()}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of facts that differ, except those that follow from others in the list."""
    nothing = object()
    found = {name for name in {**one, **other} if one.get(name, nothing) != other.get(name, nothing)}
    for name, following in _FOLLOWING.items():
        if name in found:
            found = {other for other in found if other == name or not other.startswith(following)}
    return tuple(sorted(found))


def _made_sessions(request: Request, facts: Mapping[str, Any]) -> list[str]:
    """Return the session that the server created, if the request has none."""
    session_id = dict((*request.query, *request.form)).get("session_id")
    return [str(facts["session_id"])] if session_id in {None, "new"} and "session_id" in facts else []


def _without(changing: Iterable[str], value: Any) -> Any:
    """Replace texts that change each time, and addresses of objects in memory."""
    text = json.dumps(value)
    for word in changing:
        text = text.replace(word, "...")
    return json.loads(re.sub(r" at 0x[0-9a-f]+", " at 0x", text), parse_constant=str)  # NaN equals no NaN


def _plain(value: Any) -> Any:
    """Parse JSON texts in a list, as in descriptions until 2024."""
    if isinstance(value, list):
        return [
            _plain(json.loads(one)) if isinstance(one, str) and one.startswith("[") else _plain(one) for one in value
        ]
    return value


def _members(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict) or not value:
        yield place, _lasting(value)
        return
    for name, member in value.items():
        if name not in _NEVER_EQUAL:
            yield from _members(member, f"{place}.{name}" if place else name)


def _lasting(value: Any) -> Any:
    """Remove members that differ between servers or runs."""
    if isinstance(value, list):
        return [_lasting(member) for member in value]
    if isinstance(value, dict):
        return {name: _lasting(member) for name, member in value.items() if name not in _NEVER_EQUAL}
    return value


def _body(request: Request) -> tuple[bytes | None, dict[str, str]]:
    if request.body is not None:
        return request.body, {"Content-Type": _JSON}
    if request.files:
        parts = [_part(f'name="{name}"', text.encode()) for name, text in request.form]
        parts += [_part(f'name="{name}"; filename="{name}"', content) for name, content in request.files.items()]
        content = b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()
        return content, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    if request.method == "POST":
        return urlencode(request.form).encode(), {"Content-Type": "application/x-www-form-urlencoded"}
    return None, {}


def _part(disposition: str, content: bytes) -> bytes:
    return f"--{_BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"


# -- fixtures for the mock -----------------------------------------------------------------------


def write_folder(folder: Path, descriptions: Iterable[Any], answered: Iterable[tuple[Request, Answer]]) -> None:
    """Write fixtures from a real dispatcher: its instruments, and the result of each query that it ran."""
    origins = {}
    for description in descriptions:
        instrument = instrument_of(description)
        path = f"{instrument['instrument']}/instrument.json"
        write_json(folder / path, instrument)
        origins[path] = ORIGIN
    for number, (request, answer) in enumerate(answered):
        arguments = read_arguments(request.query, request.form)
        if (
            request.path == "/run_analysis"
            and arguments.get("query_status") in {"new", "ready"}
            and answer.status == 200
        ):
            path = f"{arguments['instrument']}/{arguments['product_type']}/{number}"
            write_json(folder / path / "query.json", _query(arguments, request.files))
            write_json(folder / path / "answer.json", _end(json.loads(answer.body)))
            origins[path] = ORIGIN
    write_manifest(folder, origins)


def instrument_of(description: list[Any]) -> dict[str, Any]:
    """Convert a dispatcher's description of an instrument to that of a fixture."""
    [[head, products, *queries]] = description
    described = []
    for items in (json.loads(query) if isinstance(query, str) else query for query in queries):
        names = {
            name: value for item in items for name, value in item.items() if name in ("query_name", "product_name")
        }
        parameters = [
            {"name": item["name"], "units": item["units"], "value": item["value"]} for item in items if "name" in item
        ]
        described.append({**names, "parameters": [item for item in parameters if item["name"] is not None]})
    # JSON keys are sorted; the dispatcher itself has the order of the queries
    order = [query["query_name"] for query in described]
    prod_dict = dict(sorted(products["prod_dict"].items(), key=lambda entry: order.index(entry[1])))
    return {
        "format": 1,
        "instrument": head["instrumet"],
        "prod_dict": prod_dict,
        "queries": described,
    }


def _query(arguments: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    parameters = {
        name: value
        for name, value in arguments.items()
        if name not in _NO_PARAMETERS and value is not None and not isinstance(value, dict)
    }
    if _WINDOWS in files:
        parameters["scw_list"] = [name for line in files[_WINDOWS].decode().split() for name in line.split(",")]
    return {
        "format": 1,
        **{name: arguments[name] for name in ("instrument", "product_type", "query_type")},
        "parameters": parameters,
        "api": "api" in arguments,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != _WINDOWS},
    }


def _end(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of a query; one that waits for reports ends without products."""
    products = {name: value for name, value in document["products"].items() if name == "input_prod_list"}
    waits = document["query_status"] == "submitted"
    exit_status = {name: value for name, value in document["exit_status"].items() if name != "job_status"}
    return {
        "format": 1,
        "query_status": "done" if waits else document["query_status"],
        "exit_status": exit_status,
        "timeline": [["submitted", 0.0]] if waits else [],
        "products": products,
    }
