"""The pytest plugin: options, a marker and fixtures for tests that ask a dispatcher (docs/testing.md).

It is loaded with every run of pytest where this package is installed, and imports what it needs when it is used.
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

    from oda_proxy.testing.cassette import Cassette, Wanted
    from oda_proxy.testing.network_block import NetworkBlock

T = TypeVar("T")

MODES = ("none", "once", "new_episodes", "all")

_MOCK = ("fixtures", "scenario", "scenarios", "faults", "synthetic", "secret_key", "generation", "seed")
"""What a test says of the mock."""
_WORDS = ("recording", "upstream", "include_private", *_MOCK, "time_scale")

_TITLE = "oda-proxy"
_EPISODES: pytest.StashKey[Cassette] = pytest.StashKey()
_REFUSALS: pytest.StashKey[list[str]] = pytest.StashKey()
_PASSED: pytest.StashKey[bool] = pytest.StashKey()
_IS_TOLD: pytest.StashKey[bool] = pytest.StashKey()
"""Whether the failure of a test says itself what was missed."""
_BLOCKADE: pytest.StashKey[NetworkBlock] = pytest.StashKey()
_USED: pytest.StashKey[dict[str, dict[str, bool]]] = pytest.StashKey()
"""Of each folder of recordings, what is in it, and whether a test used it."""
_RECORDED: pytest.StashKey[list[str]] = pytest.StashKey()
"""What was recorded, in a line each."""
_BEGUN: pytest.StashKey[dict[Path, bool]] = pytest.StashKey()
"""Of each folder that tests share, whether it held recordings before a test of this run had it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup(_TITLE, "answers of ODA/MMODA dispatchers")
    group.addoption(
        "--oda-record-mode",
        choices=MODES,
        default="none",
        help="none: recordings only (default); once: record where there is none; new_episodes: record what is missing; "
        "all: record anew",
    )
    group.addoption("--oda-upstream", metavar="URL", help="the dispatcher to record from (default: the production one)")
    group.addoption(
        "--oda-recordings", metavar="DIR", help="where recordings are (default: recordings beside each test's file)"
    )
    group.addoption(
        "--oda-block-network", action="store_true", help="tests reach no other machine, except while they record"
    )
    group.addoption(
        "--oda-report-unused", action="store_true", help="list the recordings that passing tests did not use"
    )
    group.addoption("--oda-fail-on-unused", action="store_true", help="list them, and fail where there are any")


def pytest_configure(config: pytest.Config) -> None:
    """Describe the marker, and make ready to take notes."""
    config.addinivalue_line(
        "markers",
        f"oda({', '.join(f'{word}=...' for word in _WORDS)}): what a test is answered by the fixtures of oda-proxy",
    )
    config.stash[_USED] = {}
    config.stash[_RECORDED] = []
    config.stash[_BEGUN] = {}
    if config.getoption("oda_block_network"):
        from oda_proxy.testing.network_block import NetworkBlock

        config.stash[_BLOCKADE] = NetworkBlock()


# -- fixtures --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def oda_proxy_config() -> dict[str, Any]:
    """Say for all tests in reach what the marker `oda` says for one; to be overridden."""
    return {}


@pytest.fixture
def oda_dispatcher_url(request: pytest.FixtureRequest, oda_proxy_config: dict[str, Any]) -> Iterator[str]:
    """Give the address of a dispatcher of the test's own: a mock, or its recordings where the marker names some.

    The mock makes up data for every valid query, unless it is given fixtures.
    """
    said = _said(request, oda_proxy_config)
    if said.get("recording"):
        yield request.getfixturevalue("oda_proxy").url
        return
    from oda_proxy.in_process import mocking

    told = {word: value for word, value in said.items() if word in {*_MOCK, "time_scale"}}
    for word in {"fixtures", "scenarios"} & set(told):
        given = told[word] if isinstance(told[word], list | tuple) else [told[word]]
        told[word] = [request.path.parent / Path(folder) for folder in given]
    refusals: list[str] = []
    request.node.stash[_REFUSALS] = refusals
    with _in_a_line(lambda: mocking(**told, on_refusal=refusals.append)) as url:
        yield url


@pytest.fixture
def dispatcher_live_fixture(oda_dispatcher_url: str) -> str:
    """Give the address of a dispatcher under the name that suites of dispatchers and clients use."""
    return oda_dispatcher_url


@pytest.fixture
def oda_proxy(request: pytest.FixtureRequest, oda_proxy_config: dict[str, Any]) -> Iterator[Cassette]:
    """Give what answers the test from its recordings, and records where `--oda-record-mode` says so."""
    from oda_proxy.testing.cassette import opened

    config, node = request.config, request.node
    wanted = _wanted(request, _said(request, oda_proxy_config))
    with ExitStack() as stack:
        episodes = stack.enter_context(_in_a_line(lambda: opened(wanted)))
        if episodes.is_recording and (blockade := config.stash.get(_BLOCKADE, None)):
            stack.enter_context(blockade.lifted())
        node.stash[_EPISODES] = episodes
        yield episodes
        episodes.succeeded = node.stash.get(_PASSED, False)
    _take_note(config, episodes)  # at the end it is known what still ran


def _said(request: pytest.FixtureRequest, config: dict[str, Any]) -> dict[str, Any]:
    """Give what the configuration and the markers say of a test; what is nearest to the test counts."""
    said = dict(config)
    marked: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("oda"))):
        if marker.args:
            _fail("the marker takes words only, as in @pytest.mark.oda(scenario='bad-gateway')")
        marked |= marker.kwargs
    if unknown := sorted({*said, *marked} - set(_WORDS)):
        _fail(f"there is no {unknown[0]!r} to say of a test: choose from {', '.join(_WORDS)}")
    of_mock = sorted(set(marked) & set(_MOCK))
    if of_mock and "oda_dispatcher_url" not in request.fixturenames:
        _fail(f"{of_mock[0]} is for the mock, and oda_proxy answers from recordings: ask oda_dispatcher_url instead")
    if of_mock and (recording := marked.get("recording")):
        _fail(
            f"{of_mock[0]} is for the mock, and not for recordings: instead of recording={recording!r}, give the mock "
            "what was recorded, fixtures=['recordings/.../dispatchers/.../fixtures'] (docs/testing.md)"
        )
    if of_mock:
        said.pop("recording", None)
    return said | marked


def _wanted(request: pytest.FixtureRequest, said: dict[str, Any]) -> Wanted:
    """Say which recordings a test has, and what is to become of them."""
    from oda_proxy.testing.cassette import Wanted

    config, node = request.config, request.node
    beside, module = request.path.parent, request.path.stem
    at = Path("recordings")
    if chosen := config.getoption("oda_recordings"):
        beside, at = config.invocation_params.dir, Path(chosen)
        if request.path.is_relative_to(config.rootpath):
            module = str(request.path.relative_to(config.rootpath).with_suffix(""))
    name = said.get("recording", True)
    is_shared = name not in {True, False, None}
    own = _below(name) if is_shared else Path(module, _file_name(_in_module(node)))
    wanted = Wanted(
        folder=beside / at / own,
        mode=config.getoption("oda_record_mode"),
        is_shared=is_shared,
        upstream=config.getoption("oda_upstream") or said.get("upstream"),
        time_scale=said.get("time_scale", 0.0),
        include_private=said.get("include_private", False),
        command=("pytest", node.nodeid),
    )
    if is_shared:
        wanted = _of_this_run(config, wanted)
    if is_shared and wanted.records and hasattr(config, "workerinput"):
        _fail(f"several tests may have the recordings {name!r}: record them in one process, with -n 0")
    return wanted


def _below(name: str | PathLike[str]) -> Path:
    """Read the name of a folder in that of the recordings."""
    folder = Path(normpath(name))
    if folder.anchor or folder.parts[:1] in {(), ("..",)}:
        _fail(f"recording={str(name)!r} is no folder within that of the recordings: name one, as in 'crab'")
    return folder


def _of_this_run(config: pytest.Config, wanted: Wanted) -> Wanted:
    """Record `once` in every test of the run that began without the recordings, not in the first of them alone."""
    was_there = config.stash[_BEGUN].setdefault(wanted.folder, wanted.is_there)
    return wanted if was_there or wanted.mode != "once" else replace(wanted, mode="new_episodes")


def _in_module(node: pytest.Item) -> str:
    """Name a test in its module, with its class."""
    return ".".join(one.name for one in node.listchain() if isinstance(one, pytest.Class | pytest.Item))


_LONGEST_NAME = 120
_IN_NAMES = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-[]")


def _file_name(name: str) -> str:
    """Make a name that every file system takes; different names stay different."""
    plain = "".join(letter if letter in _IN_NAMES else "-" for letter in name)
    if plain == name and len(name) <= _LONGEST_NAME:
        return name
    from hashlib import sha256

    return f"{plain[:_LONGEST_NAME]}-{sha256(name.encode()).hexdigest()[:8]}"


@contextmanager
def _in_a_line(opening: Callable[[], AbstractContextManager[T]]) -> Iterator[T]:
    """Open something; our own errors fail the test in a line."""
    from oda_proxy.errors import OdaProxyError

    try:
        with opening() as given:
            yield given
    except OdaProxyError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    raise pytest.fail.Exception(f"oda-proxy: {message}", pytrace=False) from None


# -- what is told of a test ------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Block the network for the time of a test, where that is wanted."""
    if (blockade := item.config.stash.get(_BLOCKADE, None)) is None:
        return (yield)
    with blockade.standing():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test that missed a recording and went on as if nothing were."""
    item.stash[_IS_TOLD] = False  # a test may be run again
    yield
    episodes = item.stash.get(_EPISODES, None)
    if episodes and episodes.missed:
        item.stash[_IS_TOLD] = True
        _fail("\n".join(_told_of(item)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say beside the failure of a test what it missed, whatever became of the message in the client."""
    report = yield
    if call.when == "call":
        item.stash[_PASSED] = report.passed
    if report.failed and not item.stash.get(_IS_TOLD, False) and (lines := list(_told_of(item))):
        report.sections.append((_TITLE, "\n".join(lines)))
    return report


def _told_of(item: pytest.Item) -> Iterator[str]:
    """Say what a test asked for in vain."""
    for refusal in dict.fromkeys(item.stash.get(_REFUSALS, ())):
        yield f"the mock refused: {refusal}"
    episodes = item.stash.get(_EPISODES, None)
    if episodes is None:
        return
    for missed in episodes.missed:
        yield f"missed: {missed}"
    if episodes.missed:
        mode = "new_episodes" if episodes.is_replaying else "once"
        yield f"  in {_shown(item.config, episodes.folder)}; to record what is missing: --oda-record-mode={mode}"
    for reason in episodes.not_recorded:
        yield f"not recorded: {reason}"


def _shown(config: pytest.Config, folder: Path) -> str:
    here = config.invocation_params.dir
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


# -- what is told of a run -------------------------------------------------------------------------


def _take_note(config: pytest.Config, episodes: Cassette) -> None:
    """Take note of what a test used, or recorded; one that did not come to its end might have used everything."""
    folder = _shown(config, episodes.folder)
    if episodes.recorded or episodes.not_recorded:
        left_out = "".join(f"; not {reason}" for reason in episodes.not_recorded)
        config.stash[_RECORDED].append(f"{folder}: recorded {episodes.recorded}{left_out}")
    used = config.stash[_USED].setdefault(folder, {})
    for about in (*episodes.used, *episodes.unused):
        used[about] = used.get(about, False) or about in episodes.used or not episodes.succeeded


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Gather the notes of a worker of pytest-xdist."""
    told = getattr(node, "workeroutput", {}).get(_TITLE)
    if told is None:
        return
    of_worker, recorded = told
    for folder, used in of_worker.items():
        together = node.config.stash[_USED].setdefault(folder, {})
        for about, is_used in used.items():
            together[about] = together.get(about, False) or is_used
    node.config.stash[_RECORDED].extend(recorded)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send a worker's notes; fail the run where something is unused and that is wanted."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput[_TITLE] = [config.stash[_USED], config.stash[_RECORDED]]
    elif config.getoption("oda_fail_on_unused") and any(_unused(config)) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _unused(config: pytest.Config) -> Iterator[str]:
    """Say what no test used."""
    for folder, used in sorted(config.stash[_USED].items()):
        yield from (f"{folder}: {about}" for about, is_used in used.items() if not is_used)


def pytest_terminal_summary(terminalreporter: TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """List what was recorded and, where that is wanted, what no test used."""
    is_wanted = config.getoption("oda_report_unused") or config.getoption("oda_fail_on_unused")
    sections = {"recorded": config.stash[_RECORDED], "unused recordings": list(_unused(config)) if is_wanted else []}
    for title, lines in sections.items():
        if lines:
            terminalreporter.section(f"{_TITLE}: {title}")
            for line in lines:
                terminalreporter.write_line(line)
    if is_wanted and not sections["unused recordings"] and exitstatus == pytest.ExitCode.OK:
        has_any = any(config.stash[_USED].values())
        told = "all recordings were used" if has_any else "no test was answered from recordings"
        terminalreporter.write_line(f"{_TITLE}: {told}")
