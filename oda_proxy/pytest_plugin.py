"""The pytest plugin: options, a marker and fixtures for tests of dispatcher clients (docs/testing.md).

pytest loads it in every run, so the imports that cost time are within the functions.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from os.path import normpath
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from contextlib import AbstractContextManager
    from os import PathLike

    from _pytest.terminal import TerminalReporter

    from oda_proxy.files.temporary import TemporaryFolder
    from oda_proxy.testing.cassette import Cassette, CassetteOptions
    from oda_proxy.testing.leftovers import Collected, Layout
    from oda_proxy.testing.mock_control import MockControl
    from oda_proxy.testing.network_block import NetworkBlock
    from oda_proxy.testing.unread_markers import MarkedScope

T = TypeVar("T")

RECORD_MODES = ("none", "once", "new_episodes", "all")

_MOCK_KEYWORDS = (
    *("fixtures", "scenario", "scenarios", "faults", "synthetic", "descriptions", "public_instruments"),
    *("dummy_instruments", "dummy_release", "pages", "secret_key", "generation", "seed"),
)
"""Keywords of the marker that configure the mock."""
_KEYWORDS = ("recording", "upstream", "include_private", "as_of", *_MOCK_KEYWORDS, "strict", "time_scale", "blocked")
"""All keywords of the marker."""

_TITLE = "oda-proxy"
_CASSETTE: pytest.StashKey[Cassette] = pytest.StashKey()
_REFUSALS: pytest.StashKey[list[str]] = pytest.StashKey()
_STRICT: pytest.StashKey[bool] = pytest.StashKey()
"""Whether a test fails if its scenario or a fault had no effect."""
_INEFFECTIVE: pytest.StashKey[Callable[[], list[str]]] = pytest.StashKey()
"""Returns the scenario and the faults of a test that had no effect so far."""
_PASSED: pytest.StashKey[bool] = pytest.StashKey()
_IS_REPORTED: pytest.StashKey[bool] = pytest.StashKey()
"""Whether the failure of a test names its misses already."""
_NETWORK_BLOCK: pytest.StashKey[NetworkBlock] = pytest.StashKey()
_IS_READ: pytest.StashKey[bool] = pytest.StashKey()
"""Whether a fixture of a test has read the marker."""
_USED: pytest.StashKey[dict[str, dict[str, tuple[str, bool]]]] = pytest.StashKey()
"""For each folder of recordings: the keys of its recordings, their descriptions, and whether a test used them."""
_REPORTS: pytest.StashKey[defaultdict[str, list[str]]] = pytest.StashKey()
"""The lines of each section at the end of the run, by its title."""
_RECORDED, _MISSED, _REFUSED, _WITHOUT_EFFECT = (
    "recorded",
    "missed recordings",
    "refused connections",
    "faults without effect",
)
_ITEMS: pytest.StashKey[list[pytest.Item]] = pytest.StashKey()
"""All tests that were collected, deselected ones included."""
_COLLECTED: pytest.StashKey[Collected] = pytest.StashKey()
_SCOPES: pytest.StashKey[dict[str, MarkedScope]] = pytest.StashKey()
"""The classes and modules with a marker, by node id, unless a fixture of their tests is known to read it."""
_OWNERS: pytest.StashKey[dict[str, str]] = pytest.StashKey()
"""The test of each folder of recordings that is not shared, by its path in lower case."""
_READERS = frozenset({"oda_proxy", "oda_dispatcher_url"})
"""The fixtures that read the marker."""
_NOTES = "oda_proxy_notes"
_NOTES_FOLDER: pytest.StashKey[TemporaryFolder] = pytest.StashKey()
"""The folder for notes of the workers of pytest-xdist to each other."""
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
    reports: defaultdict[str, list[str]] = defaultdict(list)
    config.stash[_REPORTS] = reports
    config.stash[_OWNERS] = {}
    config.stash[_SCOPES] = {}
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
    for name in {"fixtures", "scenarios", "descriptions", "pages"} & set(arguments):
        paths = arguments[name] if isinstance(arguments[name], list | tuple) else [arguments[name]]
        if not all(str(path).strip() for path in paths):
            _fail(f"{name} has an empty path: {arguments[name]!r}")
        arguments[name] = [request.path.parent / Path(path) for path in paths]
    refusals: list[str] = []
    request.node.stash[_REFUSALS] = refusals
    request.node.stash[_STRICT] = settings["strict"]

    def set_ineffective(ineffective: Callable[[], list[str]]) -> None:
        request.node.stash[_INEFFECTIVE] = ineffective

    with _fail_on_error(lambda: mocking(**arguments, on_refusal=refusals.append, on_start=set_ineffective)) as url:
        yield url


@pytest.fixture
def oda_mock(request: pytest.FixtureRequest, oda_proxy_config: dict[str, Any], oda_dispatcher_url: str) -> MockControl:
    """Return the control of the mock of `oda_dispatcher_url`: its jobs, its faults, and what was requested."""
    from oda_proxy.testing.mock_control import MockControl

    recording = _settings(request, oda_proxy_config).get("recording", False)
    if recording not in {False, None}:
        _fail(f"oda_mock controls a mock, but this test has recording={recording!r}: use the fixture oda_proxy")
    return MockControl(oda_dispatcher_url)


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
    request.node.stash[_IS_READ] = True
    settings = dict(config)
    marked: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("oda"))):
        if marker.args:
            _fail("the marker takes keyword arguments only, as in @pytest.mark.oda(scenario='bad-gateway')")
        marked |= marker.kwargs
    if unknown := sorted({*settings, *marked} - set(_KEYWORDS)):
        _fail(f"the marker has no keyword {unknown[0]!r}: choose from {', '.join(_KEYWORDS)}")
    of_mock = sorted(set(marked) & set(_MOCK_KEYWORDS))
    if of_mock and "oda_dispatcher_url" not in {*request.fixturenames, request.fixturename}:
        _fail(f"{of_mock[0]} configures the mock, but oda_proxy replays recordings: use the fixture oda_dispatcher_url")
    if of_mock and (recording := marked.get("recording")):
        _fail(
            f"{of_mock[0]} configures the mock, not recordings: instead of recording={recording!r}, "
            "let the mock answer from them, fixtures=['recordings/.../dispatchers/.../fixtures'] (docs/testing.md)"
        )
    if of_mock:
        settings.pop("recording", None)
    settings.setdefault("strict", bool({"scenario", "faults"} & set(marked)))
    return settings | marked


def _cassette_options(request: pytest.FixtureRequest, settings: dict[str, Any]) -> CassetteOptions:
    """Return the folder and the record mode of a test's cassette."""
    from oda_proxy.testing.cassette import CassetteOptions

    config, node = request.config, request.node
    name = settings.get("recording", True)
    is_shared = name not in {True, False, None}
    layout = _layout(config, request.path)
    folder = layout.recordings / _shared_folder(name) if is_shared else _own_folder(config, node)
    chosen_upstream = config.getoption("oda_upstream")
    options = CassetteOptions(
        folder=folder,
        record_mode=config.getoption("oda_record_mode"),
        is_shared=is_shared,
        upstream=settings.get("upstream") if chosen_upstream is None else chosen_upstream,
        time_scale=settings.get("time_scale", 0.0),
        include_private=settings.get("include_private", False),
        as_of=settings.get("as_of"),
        command=("pytest", node.nodeid),
    )
    if is_shared:
        return _with_mode_of_run(config, options)
    owner = config.stash[_OWNERS].setdefault(str(folder).casefold(), node.nodeid)
    if owner != node.nodeid:
        _fail(f"its recordings would be in the folder of {owner}, whose name differs in case only: rename one of them")
    return options


def _layout(config: pytest.Config, module: Path) -> Layout:
    """Return where the recordings of a module are."""
    from oda_proxy.testing.leftovers import Layout

    if (chosen := config.getoption("oda_recordings")) is None:
        return Layout(module.parent / "recordings", module.parent)
    return Layout(config.invocation_params.dir / chosen, config.rootpath)


def _own_folder(config: pytest.Config, item: pytest.Item) -> Path:
    """Return the folder for the recordings of one test."""
    layout = _layout(config, item.path)
    is_below = item.path.is_relative_to(layout.modules)
    module = item.path.relative_to(layout.modules).with_suffix("") if is_below else Path(item.path.stem)
    return layout.recordings / module / _folder_name(_name_in_module(item), layout.recordings / module)


def _shared_folder(name: str | PathLike[str]) -> Path:
    """Return the path of a shared cassette below the folder of recordings."""
    folder = Path(normpath(name))
    if folder.anchor or folder.parts[:1] in {(), ("..",)}:
        _fail(f"recording={str(name)!r} is not a folder below that of the recordings: use a name such as 'crab'")
    return folder


def _with_mode_of_run(config: pytest.Config, options: CassetteOptions) -> CassetteOptions:
    """Record `once` in every test that shares a cassette, not only in the first, if the run began without it."""
    if options.record_mode != "once":
        return options
    existed = config.stash[_EXISTED]
    if options.folder not in existed:
        existed[options.folder] = _existed(config, options)
    return options if existed[options.folder] else replace(options, record_mode="new_episodes")


def _existed(config: pytest.Config, options: CassetteOptions) -> bool:
    """Whether a cassette existed when the run began; the first of the workers to use it notes that for all."""
    worker: dict[str, str] = getattr(config, "workerinput", {})
    if _NOTES not in worker:
        return options.exists
    from hashlib import sha256

    note = Path(worker[_NOTES], sha256(str(options.folder).encode()).hexdigest())
    draft = note.with_name(f"{note.name}.{worker['workerid']}")
    draft.write_text("existed" if options.exists else "new")
    with suppress(FileExistsError):  # the note of another worker, before which nothing was recorded
        note.hardlink_to(draft)
    return note.read_text() == "existed"


def _name_in_module(node: pytest.Item) -> str:
    """Return the name of a test within its module, with its class."""
    return ".".join(one.name for one in node.listchain() if isinstance(one, pytest.Class | pytest.Item))


_LONGEST_NAME = 120
_IN_NAMES = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-[]")


def _folder_name(name: str, parent: Path) -> str:
    """Return a name that is valid on every file system; different names stay different, also without regard to case.

    Parameters of a test often differ in case only, such as `[A]` and `[a]`: a name with capitals in its parameters gets
    a digest, unless the folder exists without, as earlier releases created it.
    """
    plain = "".join(letter if letter in _IN_NAMES else "-" for letter in name)
    parameters = plain.partition("[")[2]
    is_short = plain == name and len(name) <= _LONGEST_NAME
    if is_short and (parameters == parameters.lower() or _has_entry(parent, name)):
        return name
    from hashlib import sha256

    return f"{plain[:_LONGEST_NAME]}-{sha256(name.encode()).hexdigest()[:8]}"


def _has_entry(folder: Path, name: str) -> bool:
    """Whether a folder has an entry of exactly this name, on a file system without regard to case, too."""
    return folder.is_dir() and any(entry.name == name for entry in folder.iterdir())


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


# -- collection ------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note which tests exist, before some are deselected."""
    config.stash[_ITEMS] = list(items)
    if config.getoption("lf", default=False):
        return  # modules and tests without failures are not collected
    partial = {str(config.invocation_params.dir / one.partition("::")[0]) for one in config.args if "::" in one}
    config.stash[_SCOPES] = _marked_scopes(item for item in items if str(item.path) not in partial)
    if not _reports_unused(config):
        return
    from oda_proxy.testing.leftovers import Collected

    collected = config.stash.setdefault(_COLLECTED, Collected())
    collected.modules |= {
        str(one.path) for item in items for one in item.listchain() if isinstance(one, pytest.Module)
    } - partial
    collected.cassettes |= {str(_own_folder(config, item)) for item in items}
    for item in items:
        for marker in item.iter_markers("oda"):
            if isinstance(name := marker.kwargs.get("recording"), str) and name.strip():
                collected.cassettes.add(str(_layout(config, item.path).recordings / normpath(name)))


def _marked_scopes(items: Iterable[pytest.Item]) -> dict[str, MarkedScope]:
    """Return the classes and modules with a marker that no test is known to read; dynamic fixtures may read it yet."""
    scopes: dict[str, MarkedScope] = {}
    for item in items:
        for node in item.listchain():
            if not isinstance(node, pytest.Module | pytest.Class) or (marker := _own_marker(node)) is None:
                continue
            from oda_proxy.testing.unread_markers import MarkedScope

            scope = scopes.setdefault(node.nodeid, MarkedScope(tuple(marker.kwargs)))
            scope.tests += 1
            scope.is_read |= not _READERS.isdisjoint(getattr(item, "fixturenames", ()))
    return {name: scope for name, scope in scopes.items() if not scope.is_read}


def _own_marker(node: pytest.Collector | pytest.Item) -> pytest.Mark | None:
    """Return the marker of a node itself that a fixture is to read, or None."""
    return next((one for one in node.own_markers if one.name == "oda" and set(one.kwargs) - {"blocked"}), None)


# -- reports of a test -----------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Block the network during a test, if `--oda-block-network` is set."""
    if (network_block := item.config.stash.get(_NETWORK_BLOCK, None)) is None:
        return (yield)
    network_block.refused.clear()
    with network_block.active():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test that passed although a recording was missing, a connection was refused, or no fault struck."""
    item.stash[_IS_REPORTED] = False  # a test may be rerun
    yield
    cassette = item.stash.get(_CASSETTE, None)
    if cassette and cassette.missed:
        item.stash[_IS_REPORTED] = True
        _fail("\n".join(_lines(item)))
    _check_network(item)
    ineffective = item.stash[_INEFFECTIVE]() if _INEFFECTIVE in item.stash else []
    is_strict = item.stash.get(_STRICT, False)
    if ineffective and is_strict:
        _fail(f"{' and '.join(ineffective)} had no effect on this test; strict=False allows that")
    item.config.stash[_REPORTS][_WITHOUT_EFFECT] += [f"{item.nodeid}: {text}" for text in ineffective]
    marker = _own_marker(item)
    if marker and not item.stash.get(_IS_READ, False):
        _fail(
            f"no fixture of this test reads the marker oda({', '.join(f'{one}=...' for one in marker.kwargs)}): "
            "use oda_dispatcher_url or oda_proxy"
        )


def _check_network(item: pytest.Item) -> None:
    """Fail a test that passed although a connection was refused: the client swallowed the error."""
    network_block = item.config.stash.get(_NETWORK_BLOCK, None)
    refused = list(dict.fromkeys(network_block.refused)) if network_block else []
    is_allowed = any(marker.kwargs.get("blocked") for marker in item.iter_markers("oda"))
    if refused and not is_allowed:
        _fail(
            f"the test contacted {', '.join(refused)}, which --oda-block-network refused; "
            "if that is expected: @pytest.mark.oda(blocked=True)"
        )


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
    if call.when == "teardown":  # always the last, also after an error in a fixture
        _collect_misses(item)
        _collect_scopes(item)
    return report


def _collect_scopes(item: pytest.Item) -> None:
    """Collect whether a test read the markers of its class and module."""
    if scopes := item.config.stash[_SCOPES]:
        for node in item.listchain():
            if scope := scopes.get(node.nodeid):
                scope.ran.add(item.nodeid)
                scope.is_read |= item.stash.get(_IS_READ, False)


def _collect_misses(item: pytest.Item) -> None:
    """Collect the misses of a test for the end of the run, whatever its outcome: it may be skipped after one."""
    reports = item.config.stash[_REPORTS]
    cassette = item.stash.get(_CASSETTE, None)
    reports[_MISSED] += [f"{item.nodeid}: {missed}" for missed in (cassette.missed if cassette else ())]
    if network_block := item.config.stash.get(_NETWORK_BLOCK, None):
        reports[_REFUSED] += [f"{item.nodeid}: {host}" for host in dict.fromkeys(network_block.refused)]


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
        if not cassette.is_replaying and (old := _renamed(item, cassette)):
            move = f"git mv {quote(_relative(item.config, old))} {quote(_relative(item.config, cassette.folder))}"
            yield f"  {_relative(item.config, old)} fits, and no test uses it; if the test was renamed: {move}"
    for reason in cassette.not_recorded:
        yield f"not recorded: {reason}"


def _renamed(item: pytest.Item, cassette: Cassette) -> Path | None:
    """Return the recordings of a test that is gone which fit the queries of a test without recordings, or None."""
    from oda_proxy.testing.leftovers import MANIFEST

    if any("::" in one for one in item.config.args):  # other tests of the module were not collected
        return None
    layout = _layout(item.config, item.path)
    used = {str(_own_folder(item.config, one)) for one in item.config.stash[_ITEMS]}
    folders = [manifest.parent for manifest in sorted(layout.recordings.rglob(MANIFEST))]
    near = [folder for folder in folders if str(folder) not in used and layout.module_of(folder) is not None]
    near.sort(key=lambda folder: folder.parent != cassette.folder.parent)
    return cassette.find_fitting(near[:_MOST_CANDIDATES])


_MOST_CANDIDATES = 20
"""Maximum number of folders that are searched for the recordings of a renamed test."""


def _relative(config: pytest.Config, folder: Path) -> str:
    root = config.invocation_params.dir
    return str(folder.relative_to(root) if folder.is_relative_to(root) else folder)


# -- reports of a run ------------------------------------------------------------------------------


def _collect_usage(config: pytest.Config, cassette: Cassette) -> None:
    """Collect what a test replayed and recorded; a test that failed counts as if it had used everything."""
    folder = _relative(config, cassette.folder)
    if cassette.recorded or cassette.not_recorded:
        left_out = "".join(f"; not {reason}" for reason in cassette.not_recorded)
        config.stash[_REPORTS][_RECORDED].append(f"{folder}: recorded {cassette.recorded}{left_out}")
    _merge_usage(
        config.stash[_USED].setdefault(folder, {}),
        ((key, about, is_used or not cassette.succeeded) for key, about, is_used in cassette.usage),
    )


def _merge_usage(used: dict[str, tuple[str, bool]], usage: Iterable[tuple[str, str, bool]]) -> None:
    for key, about, is_used in usage:
        used[key] = (about, is_used or used.get(key, ("", False))[1])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Collect the results of a worker of pytest-xdist."""
    output = getattr(node, "workeroutput", {}).get(_TITLE)
    if output is None:
        return
    used_in_worker, reports, modules, cassettes, scopes = output
    for folder, used in used_in_worker.items():
        merged = node.config.stash[_USED].setdefault(folder, {})
        _merge_usage(merged, ((key, about, is_used) for key, (about, is_used) in used.items()))
    for title, lines in reports.items():
        node.config.stash[_REPORTS][title].extend(lines)
    if modules or cassettes:
        from oda_proxy.testing.leftovers import Collected

        node.config.stash.setdefault(_COLLECTED, Collected()).update(Collected(set(modules), set(cassettes)))
    if scopes:
        from oda_proxy.testing.unread_markers import MarkedScope

        for name, (keywords, tests, ran, is_read) in scopes.items():
            scope = MarkedScope(tuple(keywords), tests, set(ran), is_read)
            node.config.stash[_SCOPES].setdefault(name, scope).update(scope)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the results of a worker, or fail the run for unread markers and, optionally, unused recordings."""
    config = session.config
    if hasattr(config, "workeroutput"):
        collected = config.stash.get(_COLLECTED, None)
        reports = config.stash[_REPORTS]
        config.workeroutput[_TITLE] = [
            config.stash[_USED],
            dict(reports),
            sorted(collected.modules) if collected else [],
            sorted(collected.cassettes) if collected else [],
            {
                name: (list(scope.keywords), scope.tests, sorted(scope.ran), scope.is_read)
                for name, scope in config.stash[_SCOPES].items()
            },
        ]
        return
    fails_on_unused = config.getoption("oda_fail_on_unused") and any(_unused(config))
    if session.exitstatus == pytest.ExitCode.OK and (fails_on_unused or _unread_markers(config)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give the workers of pytest-xdist a folder for notes to each other."""
    from oda_proxy.files.temporary import TemporaryFolder

    if _NOTES_FOLDER not in node.config.stash:
        node.config.stash[_NOTES_FOLDER] = TemporaryFolder("notes")
    node.workerinput[_NOTES] = node.config.stash[_NOTES_FOLDER].name


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the notes of the workers of pytest-xdist."""
    if notes := config.stash.get(_NOTES_FOLDER, None):
        notes.cleanup()


def _reports_unused(config: pytest.Config) -> bool:
    return bool(config.getoption("oda_report_unused") or config.getoption("oda_fail_on_unused"))


def _unread_markers(config: pytest.Config) -> list[str]:
    """Describe the markers of classes and modules that no test reads, in a line each."""
    if not (scopes := config.stash[_SCOPES]):
        return []
    from oda_proxy.testing.unread_markers import unread

    return list(unread(scopes))


def _unused(config: pytest.Config) -> Iterator[str]:
    """List recordings that no test used, those of tests that are gone included, with the commands to remove them."""
    from oda_proxy.query.cache_key import short_key

    for folder, used in sorted(config.stash[_USED].items()):
        keys = [short_key(key) for key, (_, is_used) in used.items() if not is_used]
        yield from (f"{folder}: {about}" for about, is_used in used.values() if not is_used)
        if keys:
            yield f"  to remove: oda-proxy rm --capsule {quote(folder)} {' '.join(keys)}"
    used_folders = config.stash[_USED]
    for leftover in sorted({_relative(config, folder) for folder in _leftovers(config)} - set(used_folders)):
        yield f"{leftover}: no test uses it"
        yield f"  to remove: rm -r {quote(leftover)}"


def _leftovers(config: pytest.Config) -> Iterator[Path]:
    """Return the recordings that belong to no test any more."""
    if (collected := config.stash.get(_COLLECTED, None)) is None:
        return
    from oda_proxy.testing.leftovers import Layout, find_recordings, leftovers

    patterns = config.getini("python_files")
    if (chosen := config.getoption("oda_recordings")) is not None:
        yield from leftovers(Layout(config.invocation_params.dir / chosen, config.rootpath), collected, patterns)
        return
    starts = [config.invocation_params.dir / one.partition("::")[0] for one in config.args]
    for recordings in find_recordings(start for start in starts if start.is_dir()):
        yield from leftovers(Layout(recordings, recordings.parent), collected, patterns)


def pytest_terminal_summary(terminalreporter: TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """List what was recorded, what was missed and, with one of the options, recordings that no test used."""
    unused = list(_unused(config)) if _reports_unused(config) else []
    reports = config.stash[_REPORTS]
    for title, lines in {
        **reports,
        "markers without effect": _unread_markers(config),
        "unused recordings": unused,
    }.items():
        if lines:
            terminalreporter.section(f"{_TITLE}: {title}")
            for line in lines:
                terminalreporter.write_line(line)
    if _reports_unused(config) and not unused and exitstatus == pytest.ExitCode.OK:
        has_any = any(config.stash[_USED].values())
        text = "all recordings were used" if has_any else "no test used recordings"
        terminalreporter.write_line(f"{_TITLE}: {text}")
