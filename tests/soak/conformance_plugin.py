"""A pytest plugin for suites of others, which sends their requests through the proxy, or to a mock.

It is loaded into the environment of such a suite, in which this project is not installed: see `conformance.py`.

    CONFORMANCE_SERVE   JSON list: the command that serves the proxy, without `--upstream`; none if it is not set
    CONFORMANCE_MOCK    JSON list: the command that starts a mock, which all tests get in place of their dispatchers
    CONFORMANCE_CACHE   folder of the recordings of the whole run; if it is not set, each proxy starts with none
    CONFORMANCE_PAUSE   seconds before each poll; none if it is not set
    CONFORMANCE_REFRESH whether each query has `Cache-Control: no-cache`: yes, if it is set
    CONFORMANCE_API     whether each query has `api=True`, as those of `oda_api`: yes, if it is set
    CONFORMANCE_RESULT  file to which one line of JSON is written for each test: its id, its outcome and why it failed
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import matrix_server
import pytest
import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

SERVE: list[str] = json.loads(os.environ.get("CONFORMANCE_SERVE", "[]"))
MOCK: list[str] = json.loads(os.environ.get("CONFORMANCE_MOCK", "[]"))
CACHE = os.environ.get("CONFORMANCE_CACHE")
PAUSE = float(os.environ.get("CONFORMANCE_PAUSE", "0"))
REFRESH = bool(os.environ.get("CONFORMANCE_REFRESH"))
API = bool(os.environ.get("CONFORMANCE_API"))
RESULT = Path(os.environ["CONFORMANCE_RESULT"])
DISPATCHERS = re.compile(r"(gunicorn_)?dispatcher_(live|long_living)_fixture")
"""The names of the fixtures that return the URL of a dispatcher."""
PRODUCTS_URLS = {
    "external_products_url": "http://localhost:1234/mmoda/",
    "default_route_products_url": "http://0.0.0.0:1234/mmoda/",
}
"""Public addresses in the configuration of dispatchers, by a part of the names of their fixtures."""
LISTENING = "listening on "
PATIENCE = 300.0

API_IN_CODE = r',(<br>)?\s*((&#34;|")api(&#34;|"): (&#34;|")True(&#34;|"),(<br>)?\s*)?'
"""The end of a line of code in a mail, and the line with `api=True` where it is the next."""

MATRIX_CONFIGURATION = "dispatcher_test_conf_with_matrix_options_fn"
"""The fixture that writes the configuration of a dispatcher that sends messages by Matrix."""
MATRIX_ROOMS = {
    "MATRIX_CC_RECEIVER_ROOM_ID": "!cc:matrix.org",
    "MATRIX_INCIDENT_REPORT_RECEIVER_ROOM_ID": "!in:matrix.org",
}

_urls: set[str] = set()
"""Addresses of proxies."""
_send = requests.Session.request


def _send_query(self: requests.Session, method: str, url: str, **options: Any) -> requests.Response:
    """Send a request; with CONFORMANCE_API, a query gets `api=True`, as every query of `oda_api` has it."""
    if urlsplit(url).path.rstrip("/").endswith("/run_analysis"):
        name = "data" if method.upper() == "POST" else "params"
        fields = options.get(name)
        if API and (fields is None or isinstance(fields, dict)) and "api" not in (fields or {}) and "api=" not in url:
            options[name] = {**(fields or {}), "api": "True"}
        if isinstance(fields, dict) and fields.get("query_status") in {"submitted", "progress", "ready"}:
            time.sleep(PAUSE)
        elif REFRESH:
            options["headers"] = {**(options.get("headers") or {}), "Cache-Control": "no-cache"}
    return _send(self, method, url, **options)


def pytest_configure(config: pytest.Config) -> None:
    """Change the requests of this run, and let servers that are started take SIGINT, by which suites stop them."""
    setattr(requests.Session, "request", _send_query)  # noqa: B010 - a method is not assigned to, for the type checker
    if API:
        _expect_api()
    if MOCK:
        config.pluginmanager.register(_MockInPlaceOfDispatchers())
    os.environ.update({name: room for name, room in MATRIX_ROOMS.items() if name not in os.environ})
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    RESULT.write_text("")


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Replace the URL of a dispatcher by that of a proxy in front of it."""
    value = yield
    if isinstance(value, str) and fixturedef.argname == MATRIX_CONFIGURATION:
        text = Path(value).read_text()
        Path(value).write_text(text.replace("https://matrix-client.matrix.org/", matrix_server.start()))
    if SERVE and isinstance(value, str) and value not in _urls and DISPATCHERS.match(fixturedef.argname):
        value, stop = _proxy(value)
        fixturedef.addfinalizer(stop)
        assert fixturedef.cached_result is not None
        fixturedef.cached_result = (value, *fixturedef.cached_result[1:])
    return value


class _MockInPlaceOfDispatchers:
    """Returns the address of a mock from each fixture that starts a dispatcher; they are reset for each test."""

    def __init__(self) -> None:
        self.urls: dict[str, str] = {}
        """Addresses by the public address in the configuration; empty for that of most fixtures."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> object | None:
        """Return the address of the mock, or None for other fixtures."""
        if not DISPATCHERS.match(fixturedef.argname):
            return None
        public = next((url for name, url in PRODUCTS_URLS.items() if name in fixturedef.argname), "")
        if public not in self.urls:
            options = ["--products-url", public] if public else []
            self.urls[public], stop = _start([*MOCK, *options], "the mock")
            request.config.add_cleanup(stop)
        fixturedef.cached_result = (self.urls[public], fixturedef.cache_key(request), None)
        return self.urls[public]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Reset the mocks."""
        for url in self.urls.values():
            _send(requests.Session(), "POST", f"{url}/-/reset", json={}, timeout=PATIENCE).raise_for_status()


def _expect_api() -> None:
    """Have the dispatcher's suite expect `api=True` in mails and messages, which repeat the query."""
    try:
        from cdci_data_analysis.pytest_fixtures import DispatcherJobState
    except ImportError:
        return
    expected = DispatcherJobState.get_expected_products_url

    def with_api(dict_param: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        return expected({"api": "True", **dict_param}, *arguments, **options)

    DispatcherJobState.get_expected_products_url = staticmethod(with_api)
    DispatcherJobState.ignore_patterns.append(API_IN_CODE)
    DispatcherJobState.api_attachment_ignore_attachment_patterns.append(API_IN_CODE)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Undo what a test does to `requests.get`: one that fails leaves it replaced, and all later ones would fail."""
    get = requests.get
    try:
        return (yield)
    finally:
        setattr(requests, "get", get)  # noqa: B010 - as above


def _proxy(upstream: str) -> tuple[str, Callable[[], None]]:
    """Start a proxy; return its URL, and the function that stops it."""
    upstream = upstream.replace("//0.0.0.0", "//127.0.0.1")
    _wait_for(upstream)
    return _start([*SERVE, "--upstream", upstream], f"the proxy in front of {upstream}", CACHE or "cache")


def _start(command: list[str], name: str, cache: str | None = None) -> tuple[str, Callable[[], None]]:
    """Start a server, with a folder of recordings if it is a proxy; return its URL, and the function that stops it."""
    folder = tempfile.TemporaryDirectory(prefix="conformance-")
    recordings = [] if cache is None else ["--cache-dir", str(Path(folder.name) / cache)]  # or an absolute path
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    log = (Path(folder.name) / "log").open("w")
    process = subprocess.Popen(
        [*command, "--port", "0", *recordings], stdout=subprocess.PIPE, stderr=log, text=True, env=env
    )
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line.startswith(LISTENING), Path(log.name).read_text()
    url = line.removeprefix(LISTENING)
    _urls.add(url)

    def stop() -> None:
        process.terminate()
        process.wait(PATIENCE)
        log.close()
        print(f"log of {name}:\n{Path(log.name).read_text()}")  # noqa: T201 - pytest shows it
        folder.cleanup()
        _urls.discard(url)

    return url, stop


def _wait_for(upstream: str) -> None:
    """Wait until the dispatcher answers: the proxy refuses to start over one that it cannot reach."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            _send(
                requests.Session(),
                "GET",
                f"{upstream}/api/instr-list?instrument=mock",
                timeout=PATIENCE,
                allow_redirects=False,
            )
        except (requests.ConnectionError, requests.Timeout):
            assert time.monotonic() < deadline, f"no dispatcher at {upstream}"
            time.sleep(0.1)
        else:
            return


_reports: dict[str, tuple[str, str]] = {}
_seconds: dict[str, float] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write the outcome of a test after its last phase."""
    outcome, _ = _reports.get(report.nodeid, ("passed", ""))
    _seconds[report.nodeid] = _seconds.get(report.nodeid, 0.0) + report.duration
    if report.skipped:
        _reports[report.nodeid] = ("skipped", str(report.longrepr))
    elif report.failed and outcome == "passed" and report.when != "teardown":
        crash = getattr(report.longrepr, "reprcrash", None)
        _reports[report.nodeid] = ("failed", str(crash.message if crash else report.longrepr))
    if report.when == "teardown":
        outcome, message = _reports.pop(report.nodeid, ("passed", ""))
        seconds = round(_seconds.pop(report.nodeid), 1)
        entry = {"test": report.nodeid, "outcome": outcome, "seconds": seconds, "message": message}
        with RESULT.open("a") as lines:
            lines.write(json.dumps(entry) + "\n")
