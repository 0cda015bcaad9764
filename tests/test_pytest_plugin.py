"""The pytest plugin, in runs of pytest of its own."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
from importlib import import_module
from typing import TYPE_CHECKING

import pytest
import yaml

import oda_proxy
from oda_proxy.capsule.capsule import open_capsule
from oda_proxy.pytest_plugin import _WORDS
from oda_proxy.testing.network_block import NetworkBlock, NetworkBlockedError
from tests.support.asking_images import ask, status
from tests.support.paths import DOCS, SUPPORT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytest_plugins = ["pytester"]

HELPER = SUPPORT / "asking_images.py"
ALONE = ("-p", "oda_proxy", "-p", "no:cacheprovider", "--strict-markers", "-W", "error")


@pytest.fixture(scope="module", autouse=True)
def imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Import all that runs in this process use: afterwards pytester forgets what they imported, and numpy objects."""
    import_module("oda_proxy.testing.cassette")
    folder = tmp_path_factory.mktemp("warm") / "capsule"
    with oda_proxy.mocking() as mock, oda_proxy.recording(folder, upstream=mock) as url:
        ask(url, RA="250")
    with oda_proxy.replaying(folder) as url:
        assert ask(url, RA="250")["query_status"] == "done"


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Give a folder for tests in which no plugin is loaded that is not named."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    shutil.copy(HELPER, pytester.path)
    return pytester


@pytest.fixture
def run(project: pytest.Pytester) -> Callable[..., pytest.RunResult]:
    """Run pytest over the text of a test module, with this plugin."""

    def run(text: str, *arguments: str) -> pytest.RunResult:
        project.makepyfile(test_images=f"import pytest\nfrom asking_images import ask, status\n{text}")
        return project.runpytest_inprocess(*ALONE, *arguments)

    return run


@pytest.fixture
def upstream() -> Iterator[str]:
    """Give a dispatcher to record from, which has an answer to everything."""
    with oda_proxy.mocking() as url:
        yield url


IMAGE = """
def test_image(oda_proxy):
    assert ask(oda_proxy.url)["query_status"] == "done"
"""
SWALLOWED = """
def test_image(oda_proxy):
    ask(oda_proxy.url, RA="250")
"""
TWO = """
@pytest.mark.oda(recording="both")
@pytest.mark.parametrize("ra", ["255.986542", "250"])
def test_image(oda_dispatcher_url, ra):
    assert ask(oda_dispatcher_url, RA=ra)["query_status"] == "done"
"""


def recorded(folder: Path) -> list[float]:
    """Give the right ascensions, in deg, of which a capsule has a recording."""
    queries = [
        json.loads(one.file("query.json").read_text())
        for dispatcher in open_capsule(folder).dispatchers
        for one in dispatcher.fixtures
    ]
    return sorted(query["parameters"]["RA"] for query in queries)


# -- the mock --------------------------------------------------------------------------------------


def test_each_test_has_a_mock_of_its_own(run: Callable[..., pytest.RunResult]) -> None:
    result = run("""
@pytest.mark.parametrize("time", [1, 2])
def test_image(oda_dispatcher_url, time):
    assert ask(oda_dispatcher_url)["query_status"] == "done"
    assert status(oda_dispatcher_url)["runs"] == 1
""")
    result.assert_outcomes(passed=2)


def test_the_fixture_of_other_suites_gives_the_address_of_the_mock(run: Callable[..., pytest.RunResult]) -> None:
    result = run("""
@pytest.mark.oda(scenario="failing-job")
def test_image(dispatcher_live_fixture, oda_dispatcher_url):
    assert dispatcher_live_fixture == oda_dispatcher_url and not dispatcher_live_fixture.endswith("/")
    assert ask(dispatcher_live_fixture)["query_status"] == "failed"
""")
    result.assert_outcomes(passed=1)


def test_a_dispatcher_of_the_suite_itself_takes_the_place_of_the_mock(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult]
) -> None:
    project.makeconftest("""
import pytest
@pytest.fixture
def dispatcher_live_fixture():
    return "theirs"
""")
    run("def test_image(dispatcher_live_fixture): assert dispatcher_live_fixture == 'theirs'").assert_outcomes(passed=1)


def test_the_marker_says_how_the_mock_is(run: Callable[..., pytest.RunResult]) -> None:
    result = run("""
@pytest.mark.oda(synthetic=False)
def test_fixtures_alone(oda_dispatcher_url):
    assert ask(oda_dispatcher_url, RA="250")["query_status"] == "failed"

@pytest.mark.oda(faults=[{"do": "status", "status": 500, "on": [1]}])
def test_fault(oda_dispatcher_url):
    with pytest.raises(ValueError):
        ask(oda_dispatcher_url)
    assert ask(oda_dispatcher_url)["query_status"] == "done"

@pytest.mark.oda(time_scale=100)
def test_slow(oda_dispatcher_url):
    assert ask(oda_dispatcher_url)["query_status"] == "submitted"

def test_as_it_is(oda_dispatcher_url):
    assert ask(oda_dispatcher_url, RA="250")["query_status"] == "done"
    assert "wrong value" in ask(oda_dispatcher_url, RA="x")["error_message"]
""")
    result.assert_outcomes(passed=4)


def test_what_is_nearest_to_a_test_counts(run: Callable[..., pytest.RunResult]) -> None:
    result = run("""
pytestmark = pytest.mark.oda(generation="2019")

@pytest.fixture(scope="module")
def oda_proxy_config():
    return {"time_scale": 100, "generation": "1066"}

class TestImage:
    pytestmark = pytest.mark.oda(time_scale=0)

    def test_at_once(self, oda_dispatcher_url):
        assert ask(oda_dispatcher_url)["query_status"] == "done"

    @pytest.mark.oda(time_scale=100)
    def test_slow(self, oda_dispatcher_url):
        assert ask(oda_dispatcher_url)["query_status"] == "submitted"

def test_slow(oda_dispatcher_url):
    assert ask(oda_dispatcher_url)["query_status"] == "submitted"
""")
    result.assert_outcomes(passed=3)


def test_a_mock_answers_from_recordings_beside_the_test_as_a_scenario_has_it(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    with oda_proxy.recording(project.path / "capsule", upstream=upstream) as url:
        ask(url, RA="250")
    (folder,) = project.path.glob("capsule/dispatchers/*/fixtures")
    folder.rename(project.path / "mine")

    result = run("""
from mock_server import fixtures_folder
@pytest.mark.oda(fixtures=["mine", fixtures_folder()], scenario="bad-gateway")
def test_image(oda_dispatcher_url):
    assert ask(oda_dispatcher_url, RA="250")["query_status"] == "done"
    assert ask(oda_dispatcher_url, RA="251")["query_status"] == "failed"
""")
    result.assert_outcomes(passed=1)


def test_why_the_mock_refused_is_shown_though_the_client_did_not_say_it(run: Callable[..., pytest.RunResult]) -> None:
    result = run("""
@pytest.mark.oda(synthetic=False)
def test_image(oda_dispatcher_url):
    answer = ask(oda_dispatcher_url, RA="250")
    assert answer["query_status"] == "done", "it failed"
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*- oda-proxy -*", "the mock refused: no fixture * RA is 5.98654 deg smaller"])


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("nosuch=1", "*there is no 'nosuch' to say of a test: choose from recording, *"),
        ("'crab'", "*the marker takes words only*"),
        ("scenario='nosuch'", "*there is no scenario 'nosuch': choose one of bad-gateway, *"),
        (
            "scenario='bad-gateway', recording='crab'",
            "*instead of recording='crab', *fixtures=*",
        ),
        ("fixtures='nosuch'", "*nosuch*"),
        ("recording='../../../etc'", "*recording='../../../etc' is no folder within that of the recordings: *"),
        ("recording='crab/../../etc'", "*recording='crab/../../etc' is no folder within that of the recordings: *"),
        ("recording='/etc'", "*recording='/etc' is no folder within that of the recordings: *"),
        ("recording='.'", "*recording='.' is no folder within that of the recordings: *"),
    ],
)
def test_what_makes_no_sense_is_told_in_a_line(run: Callable[..., pytest.RunResult], mark: str, said: str) -> None:
    result = run(f"""
@pytest.mark.oda({mark})
def test_image(oda_dispatcher_url):
    pass
""")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([said])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_test_may_have_a_mock_where_others_have_recordings(
    run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    text = f"""
@pytest.fixture(scope="session")
def oda_proxy_config():
    return {{"recording": "all", "upstream": {upstream!r}}}

@pytest.mark.oda(scenario="failing-job")
def test_mock(oda_dispatcher_url):
    assert ask(oda_dispatcher_url)["query_status"] == "failed"

def test_recording(oda_dispatcher_url, oda_proxy):
    assert oda_dispatcher_url == oda_proxy.url and oda_proxy.folder.name == "all"
    assert ask(oda_dispatcher_url)["query_status"] == "done"
"""
    run(text, "--oda-record-mode=once").assert_outcomes(passed=2)
    assert status(upstream)["runs"] == 1


def test_what_is_said_of_the_mock_is_not_for_recordings(run: Callable[..., pytest.RunResult]) -> None:
    result = run("""
@pytest.mark.oda(scenario="bad-gateway")
def test_image(oda_proxy):
    pass
""")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*scenario is for the mock, *: ask oda_dispatcher_url instead"])


# -- recordings ------------------------------------------------------------------------------------


def test_once_records_where_there_is_nothing_and_then_replays(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    for _ in range(2):
        run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}").assert_outcomes(passed=1)
    run(IMAGE).assert_outcomes(passed=1)

    assert status(upstream)["runs"] == 1
    assert recorded(project.path / "recordings/test_images/test_image") == [255.986542]


def test_once_does_not_record_what_is_missing(run: Callable[..., pytest.RunResult], upstream: str) -> None:
    run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}").assert_outcomes(passed=1)
    result = run(SWALLOWED, "--oda-record-mode=once", f"--oda-upstream={upstream}")

    result.assert_outcomes(failed=1)
    assert status(upstream)["runs"] == 1


def test_new_episodes_are_recorded_beside_what_is_there(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    both = IMAGE + SWALLOWED.partition("\n")[2].replace("def test_image(oda_proxy):\n", "")
    result = run(both, "--oda-record-mode=new_episodes", f"--oda-upstream={upstream}")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*oda-proxy: recorded*", "*test_images/test_image: recorded 1"])
    assert status(upstream)["runs"] == 2
    assert recorded(project.path / "recordings/test_images/test_image") == [250, 255.986542]
    run(both).assert_outcomes(passed=1)


def test_new_episodes_are_of_the_dispatcher_that_was_recorded_where_none_is_named(
    run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    """The option that a miss advises is enough."""
    run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    missed = run(SWALLOWED)
    missed.assert_outcomes(failed=1)
    advised = missed.stdout.str().partition("to record what is missing: ")[2].split()[0]

    run(SWALLOWED, advised).assert_outcomes(passed=1)
    assert status(upstream)["runs"] == 2
    run(SWALLOWED).assert_outcomes(passed=1)


def test_new_episodes_are_of_the_same_dispatcher(run: Callable[..., pytest.RunResult], upstream: str) -> None:
    run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    result = run(SWALLOWED, "--oda-record-mode=new_episodes", "--oda-upstream=http://127.0.0.1:1")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*are of {upstream}, and not of http://127.0.0.1:1: record from that one*"])


def test_all_is_recorded_anew(project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str) -> None:
    run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    run(SWALLOWED, "--oda-record-mode=all", f"--oda-upstream={upstream}").assert_outcomes(passed=1)
    assert recorded(project.path / "recordings/test_images/test_image") == [250]

    run(SWALLOWED, "--oda-record-mode=all", f"--oda-upstream={upstream}").assert_outcomes(passed=1)
    assert status(upstream)["asked"] == {"new": 3}


def test_recordings_stay_where_nothing_could_be_recorded(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    run(IMAGE, "--oda-record-mode=all", "--oda-upstream=http://127.0.0.1:1").assert_outcomes(failed=1)

    assert recorded(project.path / "recordings/test_images/test_image") == [255.986542]


def test_what_a_failing_test_asked_is_recorded_too(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    failing = f"{IMAGE}    assert False\n"
    run(failing, "--oda-record-mode=once", f"--oda-upstream={upstream}").assert_outcomes(failed=1)

    capsule = open_capsule(project.path / "recordings/test_images/test_image")
    assert capsule.exit_status == 1
    assert capsule.command == ("pytest", "test_images.py::test_image")


def test_a_job_that_still_runs_when_its_test_ends_is_told_of(run: Callable[..., pytest.RunResult]) -> None:
    with oda_proxy.mocking(time_scale=100) as slow:
        result = run(
            """
def test_image(oda_proxy):
    assert ask(oda_proxy.url)["query_status"] == "submitted"
""",
            "--oda-record-mode=once",
            f"--oda-upstream={slow}",
        )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_image: recorded 0; not isgri isgri_image: its job still ran at the end"])


def test_nothing_is_left_behind_where_nothing_was_asked(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult]
) -> None:
    run("def test_image(oda_proxy): pass", "--oda-record-mode=all").assert_outcomes(passed=1)
    assert not (project.path / "recordings").exists()


def test_a_folder_of_something_else_is_left_alone(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    other = project.path / "recordings/test_images/test_image/other"
    other.parent.mkdir(parents=True)
    other.write_text("mine")
    result = run(IMAGE, "--oda-record-mode=all", f"--oda-upstream={upstream}")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*test_image is there, and holds no recordings; name another folder"])
    assert other.read_text() == "mine"


def test_what_lies_beside_recordings_in_their_folder_stays(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    note = project.path / "recordings/test_images/test_image/README.md"
    note.write_text("mine")
    run(SWALLOWED, "--oda-record-mode=all", f"--oda-upstream={upstream}").assert_outcomes(passed=1)

    assert note.read_text() == "mine"


def test_tests_share_recordings_that_are_named(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    """Each renews what it asks for, and leaves what others asked for."""
    run(TWO, "--oda-record-mode=all", f"--oda-upstream={upstream}").assert_outcomes(passed=2)

    assert recorded(project.path / "recordings/both") == [250, 255.986542]
    run(TWO, "--oda-fail-on-unused").assert_outcomes(passed=2)


@pytest.mark.parametrize("chosen", [(), ("-k", "250")])
def test_once_records_what_all_tests_of_the_run_ask_of_recordings_that_were_not_there(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str, chosen: tuple[str, ...]
) -> None:
    options = ("--oda-record-mode=once", f"--oda-upstream={upstream}")
    run(f"{TWO}{TWO.replace('_image', '_again')}", *options, *chosen).assert_outcomes(
        passed=2 if chosen else 4, deselected=2 if chosen else 0
    )

    every = [250] if chosen else [250, 255.986542]
    assert recorded(project.path / "recordings/both") == every
    assert status(upstream)["runs"] == len(every)


def test_once_does_not_add_to_shared_recordings_of_an_earlier_run(
    run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    options = ("--oda-record-mode=once", f"--oda-upstream={upstream}")
    run(LEAVES_ONE, *options).assert_outcomes(passed=1)

    run(TWO, *options).assert_outcomes(passed=1, failed=1)
    assert status(upstream)["runs"] == 1


def test_recordings_that_were_changed_are_refused_with_the_name_of_the_file(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    (answer,) = project.path.glob("recordings/**/answer.json")
    answer.write_text(answer.read_text().replace("mosaic", "mosaik"))
    result = run(IMAGE)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*oda-proxy: *answer.json: *"])


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("def test_a(oda_proxy):", "test_images/test_a"),
        ("@pytest.mark.parametrize('n', [1.5])\ndef test_a(oda_proxy, n):", "test_images/test_a[1.5]"),
        ("@pytest.mark.parametrize('n', ['a/../b'])\ndef test_a(oda_proxy, n):", "test_images/test_a[a-..-b]-4cf908f4"),
        ("@pytest.mark.oda(recording='deep/down')\ndef test_a(oda_proxy):", "deep/down"),
    ],
)
def test_each_test_has_a_folder_beside_its_module(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str, name: str, folder: str
) -> None:
    run(f"{name}\n    ask(oda_proxy.url)", "--oda-record-mode=once", f"--oda-upstream={upstream}")
    assert [one.parent for one in project.path.rglob("capsule.json")] == [project.path / "recordings" / folder]


def test_recordings_are_in_another_folder_where_one_is_named(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    module = project.mkpydir("below") / "test_below.py"
    module.write_text(f"from asking_images import ask\n{IMAGE}")
    options = ("--oda-recordings=elsewhere", "--oda-record-mode=once", f"--oda-upstream={upstream}")
    run("class TestOne:\n    def test_a(self, oda_proxy): ask(oda_proxy.url)", *options)

    assert sorted(one.parent.relative_to(project.path).as_posix() for one in project.path.rglob("capsule.json")) == [
        "elsewhere/below/test_below/test_image",
        "elsewhere/test_images/TestOne.test_a",
    ]


# -- misses ----------------------------------------------------------------------------------------


def test_a_miss_fails_a_test_that_did_not_notice_and_says_what_differs(
    run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    result = run(SWALLOWED)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["oda-proxy: missed: offline: * in your query RA is 5.98654 deg smaller", "*--oda-record-mode=new_episodes"]
    )


def test_a_miss_is_shown_beside_a_failure_of_the_test_itself(
    run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    result = run(f"{SWALLOWED}    raise ValueError('what the client made of it')")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*ValueError: what the client made of it",
            "*- oda-proxy -*",
            "missed: * in your query RA is 5.98654 deg smaller",
        ]
    )


def test_a_test_without_recordings_misses_what_it_asks(run: Callable[..., pytest.RunResult]) -> None:
    result = run(IMAGE)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["missed: isgri isgri_image: there are no recordings", "  in recordings/test_images/*--oda-record-mode=once"],
        consecutive=True,
    )


@pytest.mark.parametrize(
    ("asks", "missed"),
    [
        ("", "GET /api/par-names"),
        ("ask(oda_proxy.url)", "isgri isgri_image"),
        ("ask(oda_proxy.url, product_type='a' * 99)", f"isgri {'a' * 60}..."),
    ],
)
def test_descriptions_are_missed_only_where_no_query_is(
    run: Callable[..., pytest.RunResult], asks: str, missed: str
) -> None:
    result = run(
        f"""
import urllib.request, urllib.error
@pytest.mark.xfail(strict=True, reason="misses")
def test_image(oda_proxy):
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(f"{{oda_proxy.url}}/api/par-names")
    raised.value.close()
    {asks}
    print("missed", *oda_proxy.missed, sep="; ")
""",
        "-s",
    )
    result.stdout.fnmatch_lines([f"*missed; {missed}: there are no recordings"])


def test_a_test_may_be_expected_to_miss(run: Callable[..., pytest.RunResult]) -> None:
    run(f"@pytest.mark.xfail(strict=True){SWALLOWED}").assert_outcomes(xfailed=1)


def test_a_test_sees_what_it_used_and_missed(run: Callable[..., pytest.RunResult], upstream: str) -> None:
    run(TWO, "--oda-record-mode=all", f"--oda-upstream={upstream}")
    result = run(
        """
@pytest.mark.xfail(strict=True, reason="misses")
@pytest.mark.oda(recording="both")
def test_image(oda_proxy):
    ask(oda_proxy.url)
    ask(oda_proxy.url, RA="1")
    print([len(oda_proxy.used), len(oda_proxy.unused), len(oda_proxy.missed), oda_proxy.is_recording])
""",
        "-s",
    )
    result.stdout.fnmatch_lines(["*[[]1, 1, 1, False]"])


# -- unused recordings -----------------------------------------------------------------------------

LEAVES_ONE = TWO.replace('["255.986542", "250"]', '["250"]')


def test_what_no_test_used_is_listed_where_that_is_wanted(run: Callable[..., pytest.RunResult], upstream: str) -> None:
    run(TWO, "--oda-record-mode=all", f"--oda-upstream={upstream}")

    silent, listed = run(LEAVES_ONE), run(LEAVES_ONE, "--oda-report-unused")

    silent.stdout.no_fnmatch_line("*unused recordings*")
    listed.stdout.fnmatch_lines(
        ["*oda-proxy: unused recordings*", "recordings/both: isgri isgri_image (*RA=255.986542*"]
    )
    assert listed.ret == 0


def test_it_is_said_where_no_recording_is_unused(run: Callable[..., pytest.RunResult], upstream: str) -> None:
    run(TWO, "--oda-record-mode=all", f"--oda-upstream={upstream}")

    run(TWO).stdout.no_fnmatch_line("*oda-proxy: *")
    run(TWO, "--oda-report-unused").stdout.fnmatch_lines(["oda-proxy: all recordings were used"])
    run(f"{TWO}    assert False", "--oda-report-unused").stdout.no_fnmatch_line("*recordings were used")
    nothing = run("def test_image(): pass", "--oda-report-unused")
    nothing.stdout.fnmatch_lines(["oda-proxy: no test was answered from recordings"])


def test_a_run_fails_over_what_no_test_used_where_that_is_wanted(
    run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    run(TWO, "--oda-record-mode=all", f"--oda-upstream={upstream}")

    assert run(TWO, "--oda-fail-on-unused").ret == 0
    assert run(LEAVES_ONE, "--oda-fail-on-unused").ret == 1


def test_what_a_failing_test_would_have_used_is_not_called_unused(
    run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    run(TWO, "--oda-record-mode=all", f"--oda-upstream={upstream}")
    run(f"{LEAVES_ONE}    assert False", "--oda-report-unused").stdout.no_fnmatch_line("*unused recordings*")


# -- the network -----------------------------------------------------------------------------------

OUTWARD = [
    "socket.create_connection(('192.0.2.1', 80))",
    "socket.create_connection(('dispatcher.example', 80))",
    "tcp.connect(('192.0.2.1', 80))",
    "tcp.connect_ex(('dispatcher.example', 80))",
    "tcp6.connect(('2001:db8::1', 80, 0, 0))",
    "udp.sendto(b'', ('192.0.2.1', 53))",
    "udp.sendto(b'', 0, ('192.0.2.1', 53))",
    "udp.sendmsg([b''], [], 0, ('192.0.2.1', 53))",
    "tls.connect(('192.0.2.1', 443))",
    "socket.gethostbyname('dispatcher.example')",
    "urllib.request.urlopen('http://192.0.2.1')",
]


@pytest.mark.parametrize("attempt", OUTWARD)
def test_a_blocked_network_refuses_what_is_not_on_this_machine(
    run: Callable[..., pytest.RunResult], attempt: str
) -> None:
    result = run(
        f"""
import socket, ssl, urllib.request
from oda_proxy.testing.network_block import NetworkBlockedError
def test_refused():
    with (
        socket.socket() as tcp,
        socket.socket(socket.AF_INET6) as tcp6,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
        ssl.create_default_context().wrap_socket(socket.socket(), server_hostname="x") as tls,
        pytest.raises(NetworkBlockedError),
    ):
        {attempt}
""",
        "--oda-block-network",
    )
    result.assert_outcomes(passed=1)


def test_a_blocked_network_lets_this_machine_be_reached(run: Callable[..., pytest.RunResult]) -> None:
    result = run(
        """
import socket
def test_here(oda_dispatcher_url):
    assert ask(oda_dispatcher_url.replace("127.0.0.1", "localhost"))["query_status"] == "done"
    socket.getaddrinfo(socket.gethostname(), 80)
    one, another = socket.socketpair()
    with one, another:
        one.sendall(b"a")
        one.sendmsg([b"b"])
def test_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # such paths must be short
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("s")
        server.listen()
        client.connect("s")
""",
        "--oda-block-network",
    )
    result.assert_outcomes(passed=2)


def test_the_network_is_as_before_after_each_test() -> None:
    before = [vars(socket.socket).copy(), socket.getaddrinfo, socket.gethostbyname]
    blockade = NetworkBlock()
    with blockade.standing():
        with pytest.raises(NetworkBlockedError, match=r"192\.0\.2\.1 is not this machine"):
            socket.create_connection(("192.0.2.1", 80))
        with blockade.lifted(), pytest.raises(OSError, match="guard"):  # that of these tests
            socket.create_connection(("192.0.2.1", 80))

    assert [vars(socket.socket).copy(), socket.getaddrinfo, socket.gethostbyname] == before


def test_the_network_is_open_where_nobody_blocked_it(run: Callable[..., pytest.RunResult]) -> None:
    result = run("import socket\ndef test_open(): assert 'connect' not in vars(socket.socket)")
    result.assert_outcomes(passed=1)


def test_a_test_that_records_may_reach_the_network(run: Callable[..., pytest.RunResult], upstream: str) -> None:
    text = """
import socket
def test_image(oda_proxy):
    assert ask(oda_proxy.url)["query_status"] == "done"
    with pytest.raises((OSError, RuntimeError)) as raised:
        socket.create_connection(("192.0.2.1", 80))
    print(raised.type.__name__)
"""
    options = ("-s", "--oda-block-network", "--oda-record-mode=once", f"--oda-upstream={upstream}")
    run(text, *options).stdout.fnmatch_lines(["*RefusedError*"])  # by the guard of these tests, no sooner
    run(text, *options).stdout.fnmatch_lines(["*NetworkBlockedError*"])


# -- among others ----------------------------------------------------------------------------------

MANY = """
@pytest.mark.parametrize("ra", range(12))
def test_mock(oda_dispatcher_url, ra):
    ask(oda_dispatcher_url)
    assert status(oda_dispatcher_url)["runs"] == 1
@pytest.mark.parametrize("ra", range(240, 248))
def test_own(oda_proxy, ra):
    assert ask(oda_proxy.url, RA=str(ra))["query_status"] == "done"
"""
IN_FOUR = ("-p", "xdist", "-n", "4")


def test_four_workers_record_and_replay(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    result = run(MANY, *IN_FOUR, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    result.assert_outcomes(passed=20)
    result.stdout.fnmatch_lines(["*oda-proxy: recorded*"])
    assert len(list(project.path.rglob("capsule.json"))) == 8

    result = run(MANY, *IN_FOUR, "--oda-block-network", "--oda-fail-on-unused")
    result.assert_outcomes(passed=20)
    assert status(upstream)["runs"] == 8


def test_misses_and_what_is_unused_are_told_by_workers(run: Callable[..., pytest.RunResult], upstream: str) -> None:
    run(TWO, "--oda-record-mode=all", f"--oda-upstream={upstream}")

    both = run(TWO, *IN_FOUR, "--oda-fail-on-unused")
    both.assert_outcomes(passed=2)
    assert both.ret == 0  # though each worker used but one

    one = run(LEAVES_ONE, *IN_FOUR, "--oda-fail-on-unused")
    one.stdout.fnmatch_lines(["*oda-proxy: unused recordings*", "recordings/both: *"])
    assert one.ret == 1

    missed = run(f"{SWALLOWED}    raise ValueError", *IN_FOUR)
    missed.stdout.fnmatch_lines(["*- oda-proxy -*", "missed: *"])


def test_workers_do_not_record_what_tests_share(run: Callable[..., pytest.RunResult], upstream: str) -> None:
    result = run(TWO, *IN_FOUR, "--oda-record-mode=all", f"--oda-upstream={upstream}")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        ["*several tests may have the recordings 'both': record them in one process, with -n 0"]
    )


def test_options_of_recorders_of_http_are_theirs(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult]
) -> None:
    """pytest-recording has --record-mode and --block-network, and pytest refuses a second one of a name."""
    project.makeconftest("""
def pytest_addoption(parser):
    parser.addoption("--record-mode", default="all")
    parser.addoption("--block-network", action="store_true")
""")
    run("def test_one(oda_proxy): assert not oda_proxy.is_recording", "--record-mode=all").assert_outcomes(passed=1)


def test_a_run_that_does_not_use_the_plugin_imports_nothing_for_it(project: pytest.Pytester) -> None:
    project.makepyfile("def test_one(): pass")
    project.makeconftest("""
import sys
def pytest_unconfigure():
    heavy = {"oda_proxy", "mock_server", "aiohttp", "asyncio", "numpy", "astropy"}
    print("imported", *sorted(name for name in sys.modules if name.partition(".")[0] in heavy))
""")
    result = project.runpytest_subprocess("-p", "oda_proxy", "-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["imported oda_proxy oda_proxy.pytest_plugin"])


def test_the_plugin_is_there_where_the_package_is_installed(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    project.makepyfile("def test_one(oda_dispatcher_url): assert oda_dispatcher_url")
    project.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")

    project.runpytest_subprocess().assert_outcomes(passed=1)
    project.runpytest_subprocess("-p", "no:oda_proxy").assert_outcomes(errors=1)


def test_the_marker_and_the_fixtures_tell_what_they_are(run: Callable[..., pytest.RunResult]) -> None:
    run("", "--markers").stdout.fnmatch_lines(["@pytest.mark.oda(recording=..., *"])
    run("", "--fixtures").stdout.fnmatch_lines(["oda_dispatcher_url -- *", "    Give the address*"])


# -- what users are told ---------------------------------------------------------------------------

DOCUMENT = (DOCS / "testing.md").read_text()


def blocks(language: str) -> list[str]:
    """Give the blocks of the document that are in a language."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", DOCUMENT)


def commands() -> list[list[str]]:
    """Give the commands of the workflow, in words."""
    (workflow,) = map(yaml.safe_load, blocks("yaml"))
    (job,) = workflow["jobs"].values()
    return [shlex.split(step["run"]) for step in job["steps"] if "run" in step]


def test_the_workflow_installs_what_its_tests_need() -> None:
    install, test = commands()

    assert install[:4] == ["python", "-m", "pip", "install"]
    assert {"oda-proxy", "pytest", "pytest-xdist"} < set(install[4:])
    assert test[:3] == ["python", "-m", "pytest"]


@pytest.mark.real
def test_the_examples_run_as_the_workflow_runs_them(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, client_python: Callable[[str], Path], upstream: str
) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    first, configuration, second, script = blocks("python")
    (client,) = (client_python("1.3.5").parent.parent / "lib").glob("python3*/site-packages")
    project.makeconftest(f"import sys\nimport pytest\nsys.path.append({str(client)!r})\n{configuration}")
    project.makepyfile(test_images=f"{first}\n\n{second}")

    once = project.runpytest_subprocess("--oda-record-mode=once", f"--oda-upstream={upstream}")
    once.assert_outcomes(passed=4)
    project.runpytest_subprocess(*commands()[1][3:]).assert_outcomes(passed=4)
    assert status(upstream)["runs"] == 1

    assert script.startswith("import oda_proxy")
    assert set(re.findall(r"oda_proxy\.(\w+)\(", script)) == set(oda_proxy.__all__) - {"__version__"}


@pytest.mark.parametrize("word", _WORDS)
def test_a_word_of_the_marker_is_in_a_table_of_the_document(word: str) -> None:
    assert re.search(rf"(?m)^\|.*`{word}=", DOCUMENT)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)[^)]*\)", DOCUMENT))
def test_a_link_of_the_document_leads_somewhere(link: str) -> None:
    assert (DOCS / link).exists()


@pytest.mark.parametrize("option", sorted(set(re.findall(r"--oda-[a-z-]+[a-z]", DOCUMENT))))
def test_an_option_of_the_document_is_there(run: Callable[..., pytest.RunResult], option: str) -> None:
    run("", "--help").stdout.fnmatch_lines([f"*{option}*"])
