"""Requests that are sent to the mock and to a real dispatcher: valid, invalid and unusual ones."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mock_server.tokens import make_token

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KEY = "secretkey_test"

NEW: Mapping[str, str] = {
    "instrument": "empty",
    "product_type": "dummy",
    "query_type": "Dummy",
    "query_status": "new",
    "session_id": "SESSIONCOMPARED0",
    "DEC": "-47.11",  # the jobs of no other test
    "api": "True",
    "oda_api_version": "1.3.5",
}
NEW_ASYNC: Mapping[str, str] = {**NEW, "instrument": "empty-async", "product_type": "dummy", "query_type": "Real"}
NO_JOB = "0123456789abcdef"
CATALOG = json.dumps(
    {
        "cat_frame": "fk5",
        "cat_coord_units": "deg",
        "cat_column_list": [[1], ["Crab"], [100.0], [83.63], [22.01], [0], [0], [0], [0.01]],
        "cat_column_names": [
            *("meta_ID", "src_names", "significance", "ra", "dec", "NEW_SOURCE", "ISGRI_FLAG", "FLAG", "ERR_RAD")
        ],
        "cat_column_descr": [
            *(["meta_ID", "<i8"], ["src_names", "<U4"], ["significance", "<f8"], ["ra", "<f8"], ["dec", "<f8"]),
            *(["NEW_SOURCE", "<i8"], ["ISGRI_FLAG", "<i8"], ["FLAG", "<i8"], ["ERR_RAD", "<f8"]),
        ],
        "cat_lat_name": "dec",
        "cat_lon_name": "ra",
    }
)
TOKENS: Mapping[str, str] = {
    "valid": make_token({"sub": "user@example.org", "roles": "general", "exp": time.time() + 3600}, KEY),
    "of another user": make_token({"sub": "other@example.org", "roles": "general"}, KEY),
    "without roles": make_token({"sub": "user@example.org"}, KEY),
    "with a list of roles": make_token({"sub": "user@example.org", "roles": ["general", "job manager"]}, KEY),
    "of a job manager": make_token({"sub": "manager@example.org", "roles": "general, job manager"}, KEY),
    "without subject": make_token({"roles": "general"}, KEY),
    "with an address only": make_token({"email": "user@example.org", "roles": "general"}, KEY),
    "without anything": make_token({}, KEY),
    "expired": make_token({"sub": "user@example.org", "exp": 1}, KEY),
    "of another key": make_token({"sub": "user@example.org"}, "another key"),
    "expired and of another key": make_token({"sub": "user@example.org", "exp": 1}, "another key"),
    "garbage": "xyz",
    "in two parts": "a.b",
    "in three parts": "a.b.c",
    "in four parts": "a.b.c.d",
    "empty": "",
    "None": "None",
    "NUL": "\0",
}

TOKEN_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "none": {},
    "off": {"msfail": "False", "mssub": "no", "msdone": "0"},
    "on": {"msfail": "True", "mssub": "yes", "mstout": "on"},
    "numbers": {"tem": "1e3", "intsub": " 7 "},
    "a negative number": {"tem": "-3"},
    "a bad number": {"tem": "10aaaa"},
    "an infinite number": {"intsub": "inf"},
    "an empty number": {"tem": ""},
    "a bad boolean": {"mssub": "maybe"},
    "an unknown one": {"temaaaa": "10"},
    "several bad ones": {"tem": "x", "msfail": "2", "mssub": "on", "colour": "green"},
    "one that is no option": {"roles": "admin"},
    "a poll without a job": {"query_status": "submitted"},
    "an expired token": {"token": TOKENS["expired"]},
    "an empty token": {"token": ""},
    "a token that is None": {"token": "None"},
    "a token without anything": {"token": TOKENS["without anything"], "tem": "1"},
}


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes
    ----------
    job_of
        Name of an earlier request; the job_id of its response is sent.
    form, files
        For POST; multipart if there are files.
    """

    name: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    method: str = "GET"
    form: tuple[tuple[str, str], ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    body: bytes | None = None
    job_of: str | None = None


def analysis(name: str, changes: Mapping[str, Any] | None = None, **more: Any) -> Request:
    """Return a request for an analysis; None removes an argument."""
    arguments = {**NEW, **(changes or {})}
    return Request(
        name, "/run_analysis", tuple((key, text) for key, text in arguments.items() if text is not None), **more
    )


def request_to(name: str, path: str, *, job_of: str | None = None, **query: str) -> Request:
    """Return a request to another route."""
    return Request(name, path, tuple(query.items()), job_of=job_of)


def post(name: str, *form: tuple[str, str], files: Mapping[str, bytes] | None = None) -> Request:
    """Return a request for an analysis with a form."""
    return Request(name, "/run_analysis", method="POST", form=form, files=files or {})


def async_analysis(name: str, changes: Mapping[str, Any] | None = None, **more: Any) -> Request:
    return analysis(name, {**NEW_ASYNC, **(changes or {})}, **more)


def requests() -> list[Request]:
    """Return the requests for `empty`, in the order in which they must be sent: some refer to jobs of others."""
    return [
        *_parameters(),
        *_times(),
        *_lists(),
        *_catalogs(),
        *_arguments(),
        *_products(),
        *_miss_handler(),
        *_sessions(),
        *_tokens(),
        *_jobs(),
        *_asynchronous_jobs(),
        *_forms(),
        *_descriptions(),
        *_services(),
        *_methods_and_paths(),
    ]


def parameters_of_queries() -> Iterator[Request]:
    """Yield queries whose parameters are valid, invalid or unusual."""
    yield from _parameters()
    yield from _times()
    yield from _lists()
    yield from _sessions()


def _parameters() -> Iterator[Request]:
    numbers: Mapping[str, Mapping[str, str | None]] = {
        "nothing but what is required": {},
        "neither RA nor DEC": {"DEC": None},
        "RA and DEC with blanks and exponents": {"RA": " 83 ", "DEC": "2.2e1"},
        "RA": {"RA": "83.63"},
        "RA with permuted digits": {"RA": "38.63"},
        "RA as integer": {"RA": "83"},
        "RA beyond the circle": {"RA": "400"},
        "RA negative": {"RA": "-10"},
        "RA in hours": {"RA": "12h"},
        "RA in degrees": {"RA": "12d"},
        "RA is text": {"RA": "a"},
        "RA is empty": {"RA": ""},
        "RA is NUL": {"RA": "\0"},
        "RA is nan": {"RA": "nan"},
        "RA is inf": {"RA": "inf"},
        "RA with a comma": {"RA": "1,5"},
        "RA with underscores": {"RA": "1_0"},
        "RA is a list": {"RA": "[1]"},
        "DEC beyond the pole": {"DEC": "95"},
        "DEC is text": {"DEC": "south"},
        "source with blanks": {"src_name": " Crab "},
        "source is empty": {"src_name": ""},
        "source is NUL": {"src_name": "\0"},
        "source is a number": {"src_name": "3"},
        "source with letters beyond ASCII": {"src_name": "Čerenkov ☉"},
        "source with quotes": {"src_name": "a'b\"c\\d"},
        "source with a plus": {"src_name": "GX 349+2"},
        "source is long": {"src_name": "x" * 5000},
        "sb": {"product_type": "parametrical", "sb": "12"},
        "sb with fraction": {"product_type": "parametrical", "sb": "12.5"},
        "sb is empty": {"product_type": "parametrical", "sb": ""},
        "sb is NUL": {"product_type": "parametrical", "sb": "\0"},
        "sb is text": {"product_type": "parametrical", "sb": "twelve"},
        "sb negative": {"product_type": "parametrical", "sb": "-1"},
        "sb huge": {"product_type": "parametrical", "sb": "1e400"},
        "sb true": {"product_type": "parametrical", "sb": "true"},
        "parameter of another product": {"p": "10"},
        "parameter of another product with fraction": {"p": "10.0"},
        "parameter of another product is text": {"p": "ten"},
        "all numbers": {"RA": "1", "DEC": "2", "sb": "3"},
    }
    for name, changes in numbers.items():
        yield analysis(name, changes)
    echoed: Mapping[str, Mapping[str, str | None]] = {
        "echo with its defaults": {},
        "ang": {"ang": "2"},
        "ang_deg": {"ang_deg": "2"},
        "energ": {"energ": "1"},
        "energ in default units": {"energ": "1000", "energ_units": "keV"},
        "energ in MeV": {"energ": "1", "energ_units": "MeV"},
        "energ in eV": {"energ": "1", "energ_units": "eV"},
        "energ in seconds": {"energ": "1", "energ_units": "s"},
        "energ in nonsense": {"energ": "1", "energ_units": "nonsense"},
        "energ units are empty": {"energ": "1", "energ_units": ""},
        "units without energ": {"energ_units": "keV"},
        "ang in degrees": {"ang": "1", "ang_units": "deg"},
        "ang_deg in arcminutes": {"ang_deg": "1", "ang_deg_units": "arcmin"},
        "energ is text": {"energ": "a lot"},
        "RA in radians": {"RA": "1", "RA_units": "rad"},
    }
    for name, changes in echoed.items():
        yield analysis(name, {"product_type": "echo", **changes})


def _times() -> Iterator[Request]:
    for name, changes in {
        "times": {"T1": "2003-03-15T23:27:40.0", "T2": "2003-03-16T00:03:12.0"},
        "time without seconds": {"T1": "2003-03-15T23:27"},
        "time without the time": {"T1": "2003-03-15"},
        "time with a blank": {"T1": "2003-03-15 23:27:40"},
        "time with a zone": {"T1": "2003-03-15T23:27:40Z"},
        "time with blanks around": {"T1": " 2003-03-15T23:27:40 "},
        "time with microseconds": {"T1": "2003-03-15T23:27:40.123456"},
        "time rounded up": {"T1": "2003-03-15T23:27:59.9996"},
        "time of a leap second": {"T1": "2016-12-31T23:59:60"},
        "time of day 60": {"T1": "2003-03-15T23:60:00"},
        "day 30 of February": {"T1": "2003-02-30T00:00:00"},
        "year of two digits": {"T1": "03-03-15T00:00:00"},
        "T1 is text": {"T1": "yesterday"},
        "T1 is empty": {"T1": ""},
        "T1 is NUL": {"T1": "\0"},
        "T1 is a number": {"T1": "52000"},
        "T1 after T2": {"T1": "2004-01-01T00:00:00", "T2": "2003-01-01T00:00:00"},
        "T1 at T2": {"T1": "2004-01-01T00:00:00", "T2": "2004-01-01T00:00:00"},
        "times in MJD": {"T1": "52000", "T2": "52001.5", "T_format": "mjd"},
        "times in JD": {"T1": "2452000.5", "T2": "2452001.5", "T_format": "jd"},
        "times in ISO": {"T1": "2003-03-15 23:27:40", "T2": "2003-03-16 00:03:12", "T_format": "iso"},
        "times of Unix": {"T1": "1000000000", "T2": "1000000060", "T_format": "unix"},
        "times in MJD as text": {"T1": "now", "T2": "52001.5", "T_format": "mjd"},
        "times in years": {"T1": "2003.5", "T2": "2004.5", "T_format": "decimalyear"},
        "times in ISOT said so": {"T1": "2003-03-15T23:27:40", "T2": "2003-03-16T00:03:12", "T_format": "isot"},
        "times in an unknown format": {"T1": "52000", "T2": "52001", "T_format": "stardate"},
        "format of times is empty": {"T1": "52000", "T2": "52001", "T_format": ""},
        "format of times is NUL": {"T1": "52000", "T2": "52001", "T_format": "\0"},
        "format without times": {"T_format": "mjd"},
        "one time in MJD": {"T1": "52000", "T_format": "mjd"},
    }.items():
        yield analysis(name, changes)


def _lists() -> Iterator[Request]:
    for name, text in {
        "list": "a,b",
        "list in another order": "b,a",
        "list of one": "a",
        "list of numbers": "5,6",
        "list is empty": "",
        "list is NUL": "\0",
        "list with blanks": "a b",
        "list with blanks after commas": "a, b",
        "list with a comma at its end": "a,b,",
        "list as JSON": '["a","b"]',
        "list as JSON with blanks": '["a", "b"]',
        "list as JSON is empty": "[]",
        "list as JSON object": '{"a":1}',
        "list as JSON is cut off": '["a"',
        "list as JSON of numbers": "[1,2]",
    }.items():
        yield analysis(name, {"p_list": text})
    yield Request("list repeated", "/run_analysis", (*NEW.items(), ("p_list", "a"), ("p_list", "b")))
    for name, changes in {
        "windows": {"scw_list": "066500220010.001,066500230010.001"},
        "one window": {"scw_list": "066500220010.001"},
        "windows are empty": {"scw_list": ""},
        "windows with blanks": {"scw_list": "066500220010.001 066500230010.001"},
        "windows with blanks after commas": {"scw_list": "066500220010.001, 066500230010.001"},
        "windows as JSON": {"scw_list": '["066500220010.001","066500230010.001"]'},
        "windows from the form": {"scw_list": "066500220010.001", "use_scws": "form_list"},
        "windows though there are none": {"scw_list": "066500220010.001", "use_scws": "no"},
        "windows though there is a file": {"scw_list": "066500220010.001", "use_scws": "user_file"},
        "no windows": {"use_scws": "no"},
        "no windows in the form": {"use_scws": "form_list"},
        "no windows in the file": {"use_scws": "user_file"},
        "windows from nowhere known": {"scw_list": "066500220010.001", "use_scws": "elsewhere"},
    }.items():
        yield async_analysis(name, changes)
    windows = (("scw_list", "066500220010.001"), ("scw_list", "066500230010.001"))
    yield Request("windows repeated", "/run_analysis", (*NEW_ASYNC.items(), *windows))


def _catalogs() -> Iterator[Request]:
    for name, text in {
        "catalogue": CATALOG,
        "catalogue with other blanks": CATALOG.replace(", ", ","),
        "catalogue is empty": "",
        "catalogue is NUL": "\0",
        "catalogue is text": "no catalogue",
        "catalogue is a list": "[]",
        "catalogue is an empty object": "{}",
        "catalogue without columns": '{"cat_frame": "fk5", "cat_coord_units": "deg"}',
        "catalogue is a number": "5",
    }.items():
        yield analysis(name, {"selected_catalog": text})
    yield analysis("catalogue with a selection", {"selected_catalog": CATALOG, "catalog_selected_objects": "1"})
    yield analysis("selection without a catalogue", {"catalog_selected_objects": "1"})
    yield analysis("user's catalogue by name", {"user_catalog": "dummy_catalog"})


def _arguments() -> Iterator[Request]:
    arguments: Mapping[str, Mapping[str, str | None]] = {
        "unknown argument": {"colour": "green"},
        "two unknown arguments": {"colour": "green", "taste": "sweet"},
        "unknown argument allowed": {"colour": "green", "allow_unknown_args": "True"},
        "unknown argument not allowed": {"colour": "green", "allow_unknown_args": "False"},
        "what oda_api 1.0 sends": {
            "verbose": "False",
            "dry_run": "False",
            "off_line": "False",
            "oda_api_version": None,
        },
        "what oda_api 1.3.5 sends": {"off_line": "False"},
        "dry run": {"dry_run": "True"},
        "name of the client": {"client-name": "a test"},
        "without a version": {"oda_api_version": None},
        "api is False": {"api": "False"},
        "api is empty": {"api": ""},
        "asynchronous": {"run_asynch": "True"},
        "synchronous": {"run_asynch": "False"},
        "neither": {"run_asynch": "maybe"},
        "neither, in lower case": {"run_asynch": "false"},
        "neither, but empty": {"run_asynch": ""},
        "through a queue": {"async_dispatcher": "True"},
        "not through a queue": {"async_dispatcher": "False"},
        "progress wanted": {"return_progress": "True"},
        "progress not wanted": {"return_progress": "False"},
        "argument without a name": {"": "nothing"},
        "name with a dot": {"a.b": "c"},
    }
    for name, changes in arguments.items():
        yield analysis(name, changes)
    for name, pairs in {
        "argument repeated": (("RA", "1"), ("RA", "2")),
        "instrument repeated": (("instrument", "unknown"),),
        "status repeated": (("query_status", "ready"),),
        "api repeated": (("api", "False"),),
    }.items():
        yield Request(name, "/run_analysis", (*NEW.items(), *pairs))


def _products() -> Iterator[Request]:
    products: Mapping[str, Mapping[str, str | None]] = {
        "parametrical": {"product_type": "parametrical"},
        "failing": {"product_type": "failing"},
        "numerical without a role": {"product_type": "numerical"},
        "numerical with a role": {"product_type": "numerical", "token": TOKENS["valid"]},
        "numerical with a token without roles": {"product_type": "numerical", "token": TOKENS["without roles"]},
        "numerical with a list of roles": {"product_type": "numerical", "token": TOKENS["with a list of roles"]},
        "numerical out of bounds": {"product_type": "numerical", "token": TOKENS["valid"], "p": "801"},
        "numerical is text": {"product_type": "numerical", "token": TOKENS["valid"], "p": "ten"},
        "real dummy": {"product_type": "dummy", "query_type": "Real"},
        "dummy in lower case": {"product_type": "dummy", "query_type": "dummy"},
        "query type is empty": {"product_type": "dummy", "query_type": ""},
        "product is unknown": {"product_type": "unknown"},
        "product is empty": {"product_type": ""},
        "product is NUL": {"product_type": "\0"},
        "product of another instrument": {"instrument": "empty-async", "product_type": "parametrical"},
        "instrument is unknown": {"instrument": "unknown"},
        "instrument is empty": {"instrument": ""},
        "instrument is NUL": {"instrument": "\0"},
        "instrument in upper case": {"instrument": "EMPTY"},
        "instrument is mock": {"instrument": "mock"},
    }
    for name, changes in products.items():
        yield analysis(name, changes)


def _miss_handler() -> Iterator[Request]:
    for name in ("instrument", "product_type", "query_type", "query_status", "api"):
        yield analysis(f"without {name}", {name: None})
    yield analysis("without product_type and query_type", {"product_type": None, "query_type": None})
    yield analysis("without instrument and query_status", {"instrument": None, "query_status": None})
    yield Request("nothing at all", "/run_analysis")


def _sessions() -> Iterator[Request]:
    for name, text in {
        "session of one letter": "S",
        "session with dots": "a..b",
        "session with blanks": "a b",
        "session with a slash": "a/b",
        "session is long": "S" * 100,
        "session with letters beyond ASCII": "Č",
    }.items():
        yield analysis(name, {"session_id": text})
    yield analysis("session is new", {"session_id": "new"})
    yield analysis("session is empty", {"session_id": ""})
    yield analysis("without session", {"session_id": None})
    yield analysis("session is NUL", {"session_id": "\0"})


def _tokens() -> Iterator[Request]:
    for name, token in TOKENS.items():
        yield analysis(f"token {name}", {"token": token})
        yield Request(f"description with token {name}", "/api/meta-data", (("instrument", "empty"), ("token", token)))
    yield analysis("token with an unknown instrument", {"instrument": "unknown", "token": TOKENS["expired"]})


def _jobs() -> Iterator[Request]:
    first = "job"
    yield analysis(first, {"RA": "11"})
    for status in ("submitted", "progress", "ready"):
        yield analysis(f"job asked with {status!r}", {"RA": "11", "query_status": status}, job_of=first)
    yield analysis("job asked anew with its job_id", {"RA": "11"}, job_of=first)
    yield analysis("job asked anew", {"RA": "11"})
    yield analysis("job asked without its parameters", {"query_status": "submitted"}, job_of=first)
    yield analysis("job fetched without its parameters", {"query_status": "ready"}, job_of=first)
    yield analysis("job fetched with other parameters", {"RA": "12", "query_status": "ready"}, job_of=first)
    yield analysis("job asked by a user", {"query_status": "submitted", "token": TOKENS["valid"]}, job_of=first)
    other = {"RA": "11", "session_id": "ANOTHERSESSION00"}
    yield analysis("job asked by another session", {**other, "query_status": "submitted"}, job_of=first)
    yield analysis("job fetched by another session", {**other, "query_status": "ready"}, job_of=first)
    yield analysis("job begun by another session", other)
    for number, status in enumerate(("done", "failed", "prepared", "not-prepared", "unknown", "", "NEW")):
        parameters = {"RA": f"13.{number}"}
        yield analysis(f"job for {status!r}", parameters)
        yield analysis(
            f"job asked with {status!r}", {**parameters, "query_status": status}, job_of=f"job for {status!r}"
        )
    for status in ("submitted", "ready", "done", "failed", "unknown"):
        yield analysis(f"{status} without a job_id", {"query_status": status})
        yield analysis(f"{status} with an unknown job_id", {"query_status": status, "job_id": NO_JOB})
    yield analysis("new with another job_id", {"job_id": NO_JOB})
    yield analysis("new with an empty job_id", {"job_id": ""})
    yield analysis("submitted with an empty job_id", {"query_status": "submitted", "job_id": ""})
    yield analysis("status is NUL", {"query_status": "\0"})
    users = "job of a user"
    yield analysis(users, {"token": TOKENS["valid"]})
    yield analysis("user's job asked by nobody", {"query_status": "submitted"}, job_of=users)
    yield analysis("user's job fetched by nobody", {"query_status": "ready"}, job_of=users)
    for name in ("valid", "of another user", "without roles", "expired"):
        changes = {"query_status": "submitted", "token": TOKENS[name]}
        yield analysis(f"user's job asked with token {name}", changes, job_of=users)
    failed = "failed job"
    yield analysis(failed, {"product_type": "failing"})
    for status in ("submitted", "ready", "failed"):
        changes = {"product_type": "failing", "query_status": status}
        yield analysis(f"failed job asked with {status}", changes, job_of=failed)


def _asynchronous_jobs() -> Iterator[Request]:
    first = "asynchronous job"
    back_end = {"session_id": NEW["session_id"], "instrument_name": "empty-async"}

    def step(name: str, status: str, **more: str) -> Request:
        return async_analysis(name, {"RA": "21", "query_status": status, **more}, job_of=first)

    def report(name: str, **told: str) -> Request:
        return request_to(name, "/call_back", job_of=first, **back_end, **told)

    yield async_analysis(first, {"RA": "21"})
    yield step("asynchronous job before anything", "submitted")
    yield step("asynchronous job fetched too early", "ready")
    yield step("asynchronous job with its progress", "submitted", return_progress="True")
    yield step("asynchronous job with progress, fetched", "ready", return_progress="True")
    yield report("report of progress", action="progress", message="working", node_id="node_1")
    yield step("asynchronous job in progress", "submitted")
    yield step("asynchronous job in progress, asked again", "progress")
    yield step("asynchronous job in progress, with its progress", "progress", return_progress="True")
    yield report("report of something unknown", action="thinking", message="hm", node_id="node_2")
    yield step("asynchronous job after something unknown", "progress")
    yield report("report with progressing", action="progress", progressing="50", message="half", node_id="node_3")
    yield step("asynchronous job half done", "progress")
    yield report("report of the end", action="done", message="finished", node_id="node_5")
    yield step("asynchronous job ready", "progress")
    yield step("asynchronous job fetched", "ready")
    yield step("asynchronous job asked after it was fetched", "ready")
    yield async_analysis("asynchronous job asked anew", {"RA": "21"})
    failing = "asynchronous job that fails"
    yield async_analysis(failing, {"RA": "22"})
    yield request_to("report of failure", "/call_back", job_of=failing, **back_end, action="failed", message="no luck")
    for status in ("submitted", "ready", "failed"):
        changes = {"RA": "22", "query_status": status}
        yield async_analysis(f"asynchronous failure asked with {status}", changes, job_of=failing)
    yield async_analysis("asynchronous job run at once", {"RA": "23", "run_asynch": "False"})
    yield async_analysis("asynchronous job with progress from the start", {"RA": "24", "return_progress": "True"})
    yield async_analysis("asynchronous dummy", {"RA": "25", "query_type": "Dummy"})
    silent = "asynchronous job without an action"
    yield async_analysis(silent, {"RA": "26"})
    yield request_to("report without an action", "/call_back", job_of=silent, **back_end, message="hm")
    yield async_analysis("asynchronous job after no action", {"RA": "26", "query_status": "progress"}, job_of=silent)
    early = "asynchronous job asked for done"
    yield async_analysis(early, {"RA": "27"})
    yield async_analysis(
        "asynchronous job asked for done too early", {"RA": "27", "query_status": "done"}, job_of=early
    )
    progress = {"job_id": NO_JOB, "session_id": "S", "action": "progress"}
    known = {**progress, "instrument_name": "empty-async"}
    yield request_to("report without a job", "/call_back", action="done", instrument_name="empty-async")
    yield request_to("report of an unknown job", "/call_back", **known)
    yield request_to("report without an instrument", "/call_back", **progress)
    yield request_to("report of an unknown instrument", "/call_back", **progress, instrument_name="unknown")
    yield request_to("report with an expired token", "/call_back", **known, token=TOKENS["expired"])
    yield request_to("report with a token of another key", "/call_back", **known, token=TOKENS["of another key"])


def _forms() -> Iterator[Request]:
    given, path = tuple(NEW.items()), "/run_analysis"
    yield post("form", *given)
    yield post("form with a parameter", *given, ("RA", "31"))
    yield post("form with a bad parameter", *given, ("RA", "a"))
    yield Request("form and query string", path, (("RA", "31"),), "POST", form=(*given, ("RA", "32")))
    yield Request("query string by POST", path, given, "POST")
    yield post("form is empty")
    yield post("form with a token", *given, ("token", TOKENS["valid"]))
    yield post("form with an expired token", *given, ("token", TOKENS["expired"]))
    yield post("form with a catalogue", *given, ("selected_catalog", CATALOG))
    yield Request("body of JSON", path, method="POST", body=json.dumps(dict(given)).encode())
    yield post("form in parts", *given, files={"other_file": b"content"})
    windows = b"066500220010.001\n066500230010.001\n"
    asynchronous, announced = tuple(NEW_ASYNC.items()), ("use_scws", "user_file")
    files = {"user_scw_list_file": windows}
    yield post("file of windows", *asynchronous, announced, files=files)
    yield post("file of windows not announced", *asynchronous, files=files)
    yield post("file of windows denied", *asynchronous, ("use_scws", "no"), files=files)
    yield post("file of windows instead of a form", *asynchronous, ("use_scws", "form_list"), files=files)
    commas = {"user_scw_list_file": windows.replace(b"\n", b",")}
    yield post("file of windows with commas", *asynchronous, announced, files=commas)
    yield post("file of windows is empty", *asynchronous, announced, files={"user_scw_list_file": b""})
    yield post("file that is no catalogue", *given, files={"user_catalog_file": b"no catalogue"})


def _descriptions() -> Iterator[Request]:
    for path in ("/api/meta-data", "/meta-data", "/api/par-names", "/meta-data-src"):
        for name, query in {
            "": {"instrument": "empty"},
            " of empty-async": {"instrument": "empty-async"},
            " of a product": {"instrument": "empty", "product_type": "numerical"},
            " of an unknown product": {"instrument": "empty", "product_type": "unknown"},
            " of an empty product": {"instrument": "empty", "product_type": ""},
            " of an unknown instrument": {"instrument": "unknown"},
            " of an empty instrument": {"instrument": ""},
            " of no instrument": {},
            " of mock": {"instrument": "mock"},
            " for no token": {"instrument": "empty", "token": "xyz"},
        }.items():
            yield Request(f"{path}{name}", path, tuple(query.items()))
    yield request_to("list of instruments", "/api/instr-list", instrument="mock")
    yield request_to("list of instruments without an instrument", "/api/instr-list")
    yield request_to("list of instruments of another", "/api/instr-list", instrument="empty")
    expired = TOKENS["expired"]
    yield request_to("list of instruments with an expired token", "/api/instr-list", instrument="mock", token=expired)
    yield request_to("list of instruments where it is redirected to", "/instr-list")
    yield request_to("parameters", "/api/parameters", instrument="empty")
    yield request_to("parameters of no instrument", "/api/parameters")


def _services() -> Iterator[Request]:
    for path in ("/inspect-state", "/resolve-job-url", "/update_token_email_options"):
        yield request_to(f"{path} with nothing", path)
        for name in ("valid", "expired", "garbage", "of another key"):
            yield request_to(f"{path} with token {name}", path, token=TOKENS[name])
    for name, options in TOKEN_OPTIONS.items():
        arguments = {"token": TOKENS["valid"], "query_status": "new", **options}
        yield request_to(f"options of a token, {name}", "/update_token_email_options", **arguments)
    manager = TOKENS["of a job manager"]
    yield request_to("states for a job manager", "/inspect-state", token=manager, job_id="ffffffff")
    here = {"session_id": NEW["session_id"]}
    yield request_to("link to a job", "/resolve-job-url", job_of="job", **here, token="")
    yield request_to("link to an unknown job", "/resolve-job-url", job_id=NO_JOB, **here, token="")
    yield request_to("link with too much", "/resolve-job-url", job_of="job", **here, token="", colour="green")
    nowhere = {"session_id": "S", "file_list": "a"}
    files = {**here, "query_status": "ready"}
    yield request_to("download with nothing", "/download_products")
    yield request_to("download of an unknown job", "/download_products", **nowhere, job_id=NO_JOB, query_status="ready")
    yield request_to("download without a status", "/download_products", **nowhere, job_id=NO_JOB)
    yield request_to("download for a new job", "/download_products", **nowhere, query_status="new")
    for name, file in {"missing file": "missing.fits", "file outside": "../../CONF.yaml"}.items():
        wanted = {**files, "file_list": file, "download_file_name": "x"}
        yield request_to(f"download of a {name}", "/download_products", job_of="job", **wanted)
    yield request_to("download without a list of files", "/download_products", job_of="job", **files)
    user = TOKENS["valid"]
    yield request_to(
        "download for somebody else", "/download_products", job_of="job", **files, file_list="a", token=user
    )
    yield request_to("revolution", "/get_revnum")
    yield request_to("name that nobody resolves", "/resolve_name")
    yield request_to("terms without a token", "/get_list_terms", group="instruments")
    yield request_to("parents of terms without a token", "/get_parents_term", term="isgri")


def _methods_and_paths() -> Iterator[Request]:
    for method in ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"):
        for path in (
            "/run_analysis",
            "/api/meta-data",
            "/api/par-names",
            "/call_back",
            "/download_products",
            "/unknown",
        ):
            query = (("instrument", "empty"),) if path.startswith("/api") else ()
            yield Request(f"{method} {path}", path, query, method)
    for path in ("/api/meta-data", "/api/par-names", "/resolve-job-url"):
        yield Request(f"POST {path}", path, (("instrument", "empty"),), "POST")
    for path in (
        "/",
        "/unknown",
        "/run_analysis/",
        "//run_analysis",
        "/run_analysis/more",
        "/Run_analysis",
        "/api",
        "/api/",
        "/api/run_analysis",
        "/prefix/run_analysis",
        "/api//meta-data",
        "/api/meta-data/",
        "/../run_analysis",
        "/run%5Fanalysis",
        "/run_analysis%00",
        "/favicon.ico",
        "/robots.txt",
    ):
        yield Request(f"path {path}", path, tuple(NEW.items()))
