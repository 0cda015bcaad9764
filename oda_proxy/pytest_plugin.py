"""The pytest plugin: options, a marker and fixtures for tests of dispatcher clients (docs/testing.md).

pytest loads it in every run, so the imports that cost time are within the functions.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from os.path import normpath
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager
    from os import PathLike

    from _pytest.terminal import TerminalReporter

    from oda_proxy.testing.cassette import Cassette, CassetteOptions
    from oda_proxy.testing.network_block import NetworkBlock

T = TypeVar("T")

RECORD_MODES = ("none", "once", "new_episodes", "all")

_MOCK_KEYWORDS = ("fixtures", "scenario", "scenarios", "faults", "synthetic", "secret_key", "generation", "seed")
"""Keywords of the marker that configure the mock."""
_KEYWORDS = ("recording", "upstream", "include_private", *_MOCK_KEYWORDS, "time_scale")
"""All keywords of the marker."""

_TITLE = "oda-proxy"
_CASSETTE: pytest.StashKey[Cassette] = pytest.StashKey()
_REFUSALS: pytest.StashKey[list[str]] = pytest.StashKey()
_PASSED: pytest.StashKey[bool] = pytest.StashKey()
_IS_REPORTED: pytest.StashKey[bool] = pytest.StashKey()
"""Whether the failure of a test names its misses already."""
_NETWORK_BLOCK: pytest.StashKey[NetworkBlock] = pytest.StashKey()
_USED: pytest.StashKey[dict[str, dict[str, bool]]] = pytest.StashKey()
"""For each folder of recordings: its recordings, and whether a test used them."""
_RECORDED: pytest.StashKey[list[str]] = pytest.StashKey()
"""A line for each cassette that was recorded."""
_EXISTED: pytest.StashKey[dict[Path, bool]] = pytest.StashKey()
"""For each shared cassette: whether it existed when this run began."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the command line."""
    group = parser.getgroup(_TITLE, "mock and recordings of ODA/MMODA dispatchers")
    group.addoption(
        "--oda-record-mode",
        choices=RECORD_MODES,
        default="none",
        help="none: replay only (default); once: record if there are no recordings; new_episodes: record queries "
        "without a recording; all: record every query",
    )
    group.addoption("--oda-upstream", metavar="URL", help="dispatcher to record from (default: production)")
    group.addoption(
        "--oda-recordings",
        metavar="DIR",
        help="folder of all recordings (default: recordings beside each module)",
    )
    group.addoption(
        "--oda-block-network", action="store_true", help="refuse connections to other machines, except while recording"
    )
    group.addoption("--oda-report-unused", action="store_true", help="list recordings that passing tests did not use")
    group.addoption("--oda-fail-on-unused", action="store_true", help="list them, and fail if there are any")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and prepare what is collected during the run."""
    config.addinivalue_line(
        "markers",
        f"oda({', '.join(f'{keyword}=...' for keyword in _KEYWORDS)}): configure the fixtures of oda-proxy for a test",
    )
    for option in ("--oda-upstream", "--oda-recordings"):
        value = config.getoption(option.strip("-").replace("-", "_"))
        if value is not None and not value.strip():
            raise pytest.UsageError(f"{option} must not be empty, as {value!r} is")
    config.stash[_USED] = {}
    config.stash[_RECORDED] = []
    config.stash[_EXISTED] = {}
    if config.getoption("oda_block_network"):
        from oda_proxy.testing.network_block import NetworkBlock

        config.stash[_NETWORK_BLOCK] = NetworkBlock()


# -- fixtures --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def oda_proxy_config() -> dict[str, Any]:
    """Defaults of the marker `oda` for all tests in the scope of the fixture; override it to set some."""
    return {}


@pytest.fixture
def oda_dispatcher_url(request: pytest.FixtureRequest, oda_proxy_config: dict[str, Any]) -> Iterator[str]:
    """Return the URL of a dispatcher for this test: a mock, or recordings if the marker names some.

    The mock synthesises data for every valid query, unless fixtures are configured.
    """
    settings = _settings(request, oda_proxy_config)
    if settings.get("recording", False) not in {False, None}:
        yield request.getfixturevalue("oda_proxy").url
        return
    from oda_proxy.in_process import mocking

    arguments = {name: value for name, value in settings.items() if name in {*_MOCK_KEYWORDS, "time_scale"}}
    for name in {"fixtures", "scenarios"} & set(arguments):
        paths = arguments[name] if isinstance(arguments[name], list | tuple) else [arguments[name]]
        if not all(str(path).strip() for path in paths):
            _fail(f"{name} has an empty path: {arguments[name]!r}")
        arguments[name] = [request.path.parent / Path(path) for path in paths]
    refusals: list[str] = []
    request.node.stash[_REFUSALS] = refusals
    with _fail_on_error(lambda: mocking(**arguments, on_refusal=refusals.append)) as url:
        yield url


@pytest.fixture
def dispatcher_live_fixture(oda_dispatcher_url: str) -> str:
    """Return the URL of `oda_dispatcher_url`, under the name that the suites of dispatcher and client use."""
    return oda_dispatcher_url


@pytest.fixture
def oda_proxy(request: pytest.FixtureRequest, oda_proxy_config: dict[str, Any]) -> Iterator[Cassette]:
    """Return the cassette of the test, which replays and records as `--oda-record-mode` demands."""
    from oda_proxy.testing.cassette import open_cassette

    config, node = request.config, request.node
    options = _cassette_options(request, _settings(request, oda_proxy_config))
    with ExitStack() as stack:
        cassette = stack.enter_context(_fail_on_error(lambda: open_cassette(options)))
        if cassette.is_recording and (network_block := config.stash.get(_NETWORK_BLOCK, None)):
            stack.enter_context(network_block.suspended())
        node.stash[_CASSETTE] = cassette
        yield cassette
        cassette.succeeded = node.stash.get(_PASSED, False)
    _collect_usage(config, cassette)  # after the end, when jobs that still ran are known


def _settings(request: pytest.FixtureRequest, config: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords of the configuration and the markers; those closest to the test take precedence."""
    settings = dict(config)
    marked: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("oda"))):
        if marker.args:
            _fail("the marker takes keyword arguments only, as in @pytest.mark.oda(scenario='bad-gateway')")
        marked |= marker.kwargs
    if unknown := sorted({*settings, *marked} - set(_KEYWORDS)):
        _fail(f"the marker has no keyword {unknown[0]!r}: choose from {', '.join(_KEYWORDS)}")
    of_mock = sorted(set(marked) & set(_MOCK_KEYWORDS))
    if of_mock and "oda_dispatcher_url" not in request.fixturenames:
        _fail(f"{of_mock[0]} configures the mock, but oda_proxy replays recordings: use the fixture oda_dispatcher_url")
    if of_mock and (recording := marked.get("recording")):
        _fail(
            f"{of_mock[0]} configures the mock, not recordings: instead of recording={recording!r}, "
            "let the mock answer from them, fixtures=['recordings/.../dispatchers/.../fixtures'] (docs/testing.md)"
        )
    if of_mock:
        settings.pop("recording", None)
    return settings | marked


def _cassette_options(request: pytest.FixtureRequest, settings: dict[str, Any]) -> CassetteOptions:
    """Return the folder and the record mode of a test's cassette."""
    from oda_proxy.testing.cassette import CassetteOptions

    config, node = request.config, request.node
    parent, module = request.path.parent, request.path.stem
    recordings = Path("recordings")
    chosen_upstream, chosen = config.getoption("oda_upstream"), config.getoption("oda_recordings")
    if chosen is not None:
        parent, recordings = config.invocation_params.dir, Path(chosen)
        if request.path.is_relative_to(config.rootpath):
            module = str(request.path.relative_to(config.rootpath).with_suffix(""))
    name = settings.get("recording", True)
    is_shared = name not in {True, False, None}
    own = _shared_folder(name) if is_shared else Path(module, _folder_name(_name_in_module(node)))
    options = CassetteOptions(
        folder=parent / recordings / own,
        record_mode=config.getoption("oda_record_mode"),
        is_shared=is_shared,
        upstream=settings.get("upstream") if chosen_upstream is None else chosen_upstream,
        time_scale=settings.get("time_scale", 0.0),
        include_private=settings.get("include_private", False),
        command=("pytest", node.nodeid),
    )
    if is_shared:
        options = _with_mode_of_run(config, options)
    if is_shared and options.records and hasattr(config, "workerinput"):
        _fail(f"several tests may share the recordings {name!r}: record them in one process, with -n 0")
    return options


def _shared_folder(name: str | PathLike[str]) -> Path:
    """Return the path of a shared cassette below the folder of recordings."""
    folder = Path(normpath(name))
    if folder.anchor or folder.parts[:1] in {(), ("..",)}:
        _fail(f"recording={str(name)!r} is not a folder below that of the recordings: use a name such as 'crab'")
    return folder


def _with_mode_of_run(config: pytest.Config, options: CassetteOptions) -> CassetteOptions:
    """Record `once` in every test that shares a cassette, not only in the first, if the run began without it."""
    existed = config.stash[_EXISTED].setdefault(options.folder, options.exists)
    return options if existed or options.record_mode != "once" else replace(options, record_mode="new_episodes")


def _name_in_module(node: pytest.Item) -> str:
    """Return the name of a test within its module, with its class."""
    return ".".join(one.name for one in node.listchain() if isinstance(one, pytest.Class | pytest.Item))


_LONGEST_NAME = 120
_IN_NAMES = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-[]")


def _folder_name(name: str) -> str:
    """Return a name that is valid on every file system; different names stay different."""
    plain = "".join(letter if letter in _IN_NAMES else "-" for letter in name)
    if plain == name and len(name) <= _LONGEST_NAME:
        return name
    from hashlib import sha256

    return f"{plain[:_LONGEST_NAME]}-{sha256(name.encode()).hexdigest()[:8]}"


@contextmanager
def _fail_on_error(make: Callable[[], AbstractContextManager[T]]) -> Iterator[T]:
    """Enter a context; an error of this project fails the test with its message, without a traceback."""
    from oda_proxy.errors import OdaProxyError

    try:
        with make() as value:
            yield value
    except OdaProxyError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    raise pytest.fail.Exception(f"oda-proxy: {message}", pytrace=False) from None


# -- reports of a test -----------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Block the network during a test, if `--oda-block-network` is set."""
    if (network_block := item.config.stash.get(_NETWORK_BLOCK, None)) is None:
        return (yield)
    with network_block.active():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test that passed although a recording was missing."""
    item.stash[_IS_REPORTED] = False  # a test may be rerun
    yield
    cassette = item.stash.get(_CASSETTE, None)
    if cassette and cassette.missed:
        item.stash[_IS_REPORTED] = True
        _fail("\n".join(_lines(item)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add misses and refusals to the report of a failure: the client may have lost the message."""
    report = yield
    if call.when == "call":
        item.stash[_PASSED] = report.passed
    if report.failed and not item.stash.get(_IS_REPORTED, False) and (lines := list(_lines(item))):
        report.sections.append((_TITLE, "\n".join(lines)))
    return report


def _lines(item: pytest.Item) -> Iterator[str]:
    """Describe what the mock refused, and what had no recording or was not recorded, in a line each."""
    for refusal in dict.fromkeys(item.stash.get(_REFUSALS, ())):
        yield f"the mock refused: {refusal}"
    cassette = item.stash.get(_CASSETTE, None)
    if cassette is None:
        return
    for missed in cassette.missed:
        yield f"missed: {missed}"
    if cassette.missed:
        mode = "new_episodes" if cassette.is_replaying else "once"
        yield f"  in {_relative(item.config, cassette.folder)}; to record it: --oda-record-mode={mode}"
    for reason in cassette.not_recorded:
        yield f"not recorded: {reason}"


def _relative(config: pytest.Config, folder: Path) -> str:
    root = config.invocation_params.dir
    return str(folder.relative_to(root) if folder.is_relative_to(root) else folder)


# -- reports of a run ------------------------------------------------------------------------------


def _collect_usage(config: pytest.Config, cassette: Cassette) -> None:
    """Collect what a test replayed and recorded; a test that failed counts as if it had used everything."""
    folder = _relative(config, cassette.folder)
    if cassette.recorded or cassette.not_recorded:
        left_out = "".join(f"; not {reason}" for reason in cassette.not_recorded)
        config.stash[_RECORDED].append(f"{folder}: recorded {cassette.recorded}{left_out}")
    used = config.stash[_USED].setdefault(folder, {})
    for recording in (*cassette.used, *cassette.unused):
        used[recording] = used.get(recording, False) or recording in cassette.used or not cassette.succeeded


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Collect the results of a worker of pytest-xdist."""
    output = getattr(node, "workeroutput", {}).get(_TITLE)
    if output is None:
        return
    used_in_worker, recorded = output
    for folder, used in used_in_worker.items():
        merged = node.config.stash[_USED].setdefault(folder, {})
        for recording, is_used in used.items():
            merged[recording] = merged.get(recording, False) or is_used
    node.config.stash[_RECORDED].extend(recorded)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the results of a worker; fail the run for unused recordings if `--oda-fail-on-unused` is set."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput[_TITLE] = [config.stash[_USED], config.stash[_RECORDED]]
    elif config.getoption("oda_fail_on_unused") and any(_unused(config)) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _unused(config: pytest.Config) -> Iterator[str]:
    """List recordings that no test used."""
    for folder, used in sorted(config.stash[_USED].items()):
        yield from (f"{folder}: {recording}" for recording, is_used in used.items() if not is_used)


def pytest_terminal_summary(terminalreporter: TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """List what was recorded and, with one of the options, recordings that no test used."""
    reports_unused = config.getoption("oda_report_unused") or config.getoption("oda_fail_on_unused")
    unused = list(_unused(config)) if reports_unused else []
    sections = {"recorded": config.stash[_RECORDED], "unused recordings": unused}
    for title, lines in sections.items():
        if lines:
            terminalreporter.section(f"{_TITLE}: {title}")
            for line in lines:
                terminalreporter.write_line(line)
    if reports_unused and not unused and exitstatus == pytest.ExitCode.OK:
        has_any = any(config.stash[_USED].values())
        text = "all recordings were used" if has_any else "no test used recordings"
        terminalreporter.write_line(f"{_TITLE}: {text}")
