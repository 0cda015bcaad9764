"""The pytest plugin, in runs of pytest of its own."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING

import pytest
import yaml

import oda_proxy
from mock_server.scenarios import load_scenarios
from oda_proxy.capsule.capsule import open_capsule
from oda_proxy.cli import main
from oda_proxy.pytest_plugin import _KEYWORDS
from tests.support.image_query import get_image, mock_status
from tests.support.paths import DOCS, SUPPORT
from tests.support.servers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow  # each test is a run of pytest

HELPER = SUPPORT / "image_query.py"
ALONE = ("-p", "oda_proxy", "-p", "no:cacheprovider", "--strict-markers", "-W", "error")


@pytest.fixture(scope="module", autouse=True)
def imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Import what runs in this process use: pytester unloads what a run imported, which numpy does not allow."""
    import_module("oda_proxy.testing.cassette")
    folder = tmp_path_factory.mktemp("warm") / "capsule"
    with oda_proxy.mocking() as mock, oda_proxy.recording(folder, upstream=mock) as url:
        get_image(url, RA="250")
    with oda_proxy.replaying(folder) as url:
        assert get_image(url, RA="250")["query_status"] == "done"


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return a folder for tests without plugins other than this one."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    shutil.copy(HELPER, pytester.path)
    return pytester


@pytest.fixture
def run(project: pytest.Pytester) -> Callable[..., pytest.RunResult]:
    """Run pytest on the text of a test module, with this plugin."""

    def run(text: str, *arguments: str) -> pytest.RunResult:
        project.makepyfile(
            test_images=f"import pytest\nfrom image_query import get_image, mock_status, run_image\n{text}"
        )
        return project.runpytest_inprocess(*ALONE, *arguments)

    return run


@pytest.fixture
def upstream() -> Iterator[str]:
    """Return the URL of a dispatcher to record from, which answers every query."""
    with oda_proxy.mocking() as url:
        yield url


IMAGE = """
def test_image(oda_proxy):
    assert get_image(oda_proxy.url)["query_status"] == "done"
"""
SWALLOWED = """
def test_image(oda_proxy):
    get_image(oda_proxy.url, RA="250")
"""
TWO = """
@pytest.mark.oda(recording="both")
@pytest.mark.parametrize("ra", ["255.986542", "250"])
def test_image(oda_dispatcher_url, ra):
    assert get_image(oda_dispatcher_url, RA=ra)["query_status"] == "done"
"""


def recorded(folder: Path) -> list[float]:
    """Return the right ascensions, in deg, of the recordings in a capsule."""
    queries = [
        json.loads(one.file("query.json").read_text())
        for dispatcher in open_capsule(folder).dispatchers
        for one in dispatcher.fixtures
    ]
    return sorted(query["parameters"]["RA"] for query in queries)


# -- the mock --------------------------------------------------------------------------------------


def test_each_test_has_its_own_mock(run: Callable[..., pytest.RunResult]) -> None:
    result = run("""
@pytest.mark.parametrize("time", [1, 2])
def test_image(oda_dispatcher_url, time):
    assert get_image(oda_dispatcher_url)["query_status"] == "done"
    assert mock_status(oda_dispatcher_url)["runs"] == 1
""")
    result.assert_outcomes(passed=2)


def test_the_fixture_of_other_suites_is_the_url_of_the_mock(run: Callable[..., pytest.RunResult]) -> None:
    result = run("""
@pytest.mark.oda(scenario="failing-job")
def test_image(dispatcher_live_fixture, oda_dispatcher_url):
    assert dispatcher_live_fixture == oda_dispatcher_url and not dispatcher_live_fixture.endswith("/")
    assert get_image(dispatcher_live_fixture)["query_status"] == "failed"
""")
    result.assert_outcomes(passed=1)


def test_a_test_controls_its_mock(run: Callable[..., pytest.RunResult]) -> None:
    run(
        """
def test_image(oda_mock, oda_dispatcher_url):
    oda_mock.hold_jobs()
    get_image(oda_dispatcher_url)
    oda_mock.jobs[0].fail("the node died")
    answer = get_image(oda_mock.url, query_status="submitted", job_id=oda_mock.jobs[0].job_id)
    assert answer["exit_status"]["message"] == "the node died"
    assert len(oda_mock.requests) == 2

def test_another_has_its_own(oda_mock):
    assert (oda_mock.jobs, oda_mock.requests) == ([], [])

@pytest.mark.oda(synthetic=False)
def test_the_marker_configures_it(oda_mock):
    assert "no fixture" in get_image(oda_mock.url, RA="1")["exit_status"]["message"]
"""
    ).assert_outcomes(passed=3)


def test_the_control_of_a_mock_is_an_error_with_recordings(run: Callable[..., pytest.RunResult]) -> None:
    result = run("@pytest.mark.oda(recording='crab')\ndef test_image(oda_mock): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*oda_mock controls a mock, but this test has recording='crab'*"])


def test_a_fixture_of_the_suite_itself_replaces_the_mock(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult]
) -> None:
    project.makeconftest("""
import pytest
@pytest.fixture
def dispatcher_live_fixture():
    return "theirs"
""")
    run("def test_image(dispatcher_live_fixture): assert dispatcher_live_fixture == 'theirs'").assert_outcomes(passed=1)


def test_the_marker_configures_the_mock(project: pytest.Pytester, run: Callable[..., pytest.RunResult]) -> None:
    (project.path / "my-pages.toml").write_text('[[page]]\npath = "resolve_name"\njson = {RA = 7.5}\n')
    result = run("""
import json, urllib.request

@pytest.mark.oda(pages="my-pages.toml")
def test_page(oda_dispatcher_url):
    with urllib.request.urlopen(f"{oda_dispatcher_url}/resolve_name") as response:
        assert json.load(response) == {"RA": 7.5}

@pytest.mark.oda(synthetic=False)
def test_fixtures_alone(oda_dispatcher_url):
    assert get_image(oda_dispatcher_url, RA="250")["query_status"] == "failed"

@pytest.mark.oda(faults=[{"do": "status", "status": 500, "on": [1]}])
def test_fault(oda_dispatcher_url):
    with pytest.raises(ValueError):
        get_image(oda_dispatcher_url)
    assert get_image(oda_dispatcher_url)["query_status"] == "done"

@pytest.mark.oda(time_scale=100)
def test_slow(oda_dispatcher_url):
    assert get_image(oda_dispatcher_url)["query_status"] == "submitted"

def test_as_it_is(oda_dispatcher_url):
    assert get_image(oda_dispatcher_url, RA="250")["query_status"] == "done"
    assert "wrong value" in get_image(oda_dispatcher_url, RA="x")["error_message"]
""")
    result.assert_outcomes(passed=5)


@pytest.mark.parametrize(
    "scenario", sorted(set(load_scenarios()) - {"timeout", "slow-drip", "redirected-post", "token-expires"})
)
def test_a_scenario_strikes_though_jobs_take_no_time(run: Callable[..., pytest.RunResult], scenario: str) -> None:
    run(f"""
@pytest.mark.oda(scenario={scenario!r})
def test_image(oda_dispatcher_url):
    run_image(oda_dispatcher_url)
""").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ("scenario='redirected-post'", "the scenario 'redirected-post'"),
        ("scenario='token-expires'", "the scenario 'token-expires'"),
        (
            "faults={'do': 'html', 'route': 'api/meta-data', 'on': [1]}",
            'the fault do = "html", route = "api/meta-data"*',
        ),
        ("scenario='slow-job', faults=[{'do': 'html', 'methods': ['POST']}]", 'the fault do = "html", methods = *'),
    ],
)
def test_a_fault_that_never_struck_fails_the_test_unless_it_is_not_strict(
    run: Callable[..., pytest.RunResult], keywords: str, message: str
) -> None:
    text = """
@pytest.mark.oda(KEYWORDS)
def test_image(oda_dispatcher_url):
    assert run_image(oda_dispatcher_url)[-1] == "done"
"""
    strict = run(text.replace("KEYWORDS", keywords))
    strict.assert_outcomes(failed=1)
    strict.stdout.fnmatch_lines(
        [f"oda-proxy: {message.replace('[', '[[]')} had no effect on this test; strict=False allows that"]
    )

    lax = run(text.replace("KEYWORDS", f"{keywords}, strict=False"))
    lax.assert_outcomes(passed=1)
    lax.stdout.fnmatch_lines(["*oda-proxy: faults without effect*", f"test_images.py::test_image: {message}"])


def test_a_scenario_of_the_configuration_does_not_have_to_strike(run: Callable[..., pytest.RunResult]) -> None:
    result = run("""
@pytest.fixture(scope="session")
def oda_proxy_config():
    return {"scenario": "bad-gateway"}
def test_nothing(oda_dispatcher_url):
    pass
""")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_images.py::test_nothing: the scenario 'bad-gateway'"])


def test_the_marker_closest_to_the_test_takes_precedence(run: Callable[..., pytest.RunResult]) -> None:
    result = run("""
pytestmark = pytest.mark.oda(generation="2019")

@pytest.fixture(scope="module")
def oda_proxy_config():
    return {"time_scale": 100, "generation": "1066"}

class TestImage:
    pytestmark = pytest.mark.oda(time_scale=0)

    def test_at_once(self, oda_dispatcher_url):
        assert get_image(oda_dispatcher_url)["query_status"] == "done"

    @pytest.mark.oda(time_scale=100)
    def test_slow(self, oda_dispatcher_url):
        assert get_image(oda_dispatcher_url)["query_status"] == "submitted"

def test_slow(oda_dispatcher_url):
    assert get_image(oda_dispatcher_url)["query_status"] == "submitted"
""")
    result.assert_outcomes(passed=3)


def test_a_mock_answers_from_recordings_with_a_scenario(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    with oda_proxy.recording(project.path / "capsule", upstream=upstream) as url:
        get_image(url, RA="250")
    (folder,) = project.path.glob("capsule/dispatchers/*/fixtures")
    folder.rename(project.path / "mine")

    result = run("""
from mock_server import fixtures_folder
@pytest.mark.oda(fixtures=["mine", fixtures_folder()], scenario="bad-gateway")
def test_image(oda_dispatcher_url):
    assert get_image(oda_dispatcher_url, RA="251")["query_status"] == "failed"
    assert run_image(oda_dispatcher_url, RA="250") == ["submitted"] * 3 + ["broken", "ready", "done"]
""")
    result.assert_outcomes(passed=1)


def test_the_marker_names_the_date_by_which_recordings_count(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    with oda_proxy.recording(project.path / "recordings/crab", upstream=upstream) as url:
        get_image(url)

    result = run(f"""
@pytest.mark.oda(recording="crab", as_of="2001-01-01")
def test_before(oda_dispatcher_url):
    get_image(oda_dispatcher_url)

@pytest.mark.oda(recording="crab", as_of="{datetime.now(UTC):%Y-%m-%d}")
def test_after(oda_dispatcher_url):
    assert get_image(oda_dispatcher_url)["query_status"] == "done"

@pytest.mark.oda(recording="crab", as_of="May")
def test_no_date(oda_dispatcher_url):
    pass
""")
    result.assert_outcomes(passed=1, failed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*as_of must be a date*", "*::test_before: as of 2001-01-01: there is no recording of isgri isgri_image *"]
    )


def test_the_reason_of_a_refusal_is_in_the_report_of_the_failure(run: Callable[..., pytest.RunResult]) -> None:
    result = run("""
@pytest.mark.oda(synthetic=False)
def test_image(oda_dispatcher_url):
    answer = get_image(oda_dispatcher_url, RA="250")
    assert answer["query_status"] == "done", "it failed"
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*- oda-proxy -*", "the mock refused: no fixture * RA is 5.98654 deg smaller"])


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("nosuch=1", "*the marker has no keyword 'nosuch': choose from recording, *"),
        ("'crab'", "*the marker takes keyword arguments only*"),
        ("scenario='nosuch'", "*there is no scenario 'nosuch': choose one of bad-gateway, *"),
        (
            "scenario='bad-gateway', recording='crab'",
            "*instead of recording='crab', *fixtures=*",
        ),
        ("fixtures='nosuch'", "*nosuch*"),
        ("fixtures=''", "*fixtures has an empty path: ''"),
        ("secret_key=''", "*the secret key is empty*"),
        ("recording=''", "*recording='' is not a folder below that of the recordings: *"),
        ("recording='crab', upstream=''", "*upstream must be an http(s) URL*"),
        ("recording='../../../etc'", "*recording='../../../etc' is not a folder below that of the recordings: *"),
        ("recording='crab/../../etc'", "*recording='crab/../../etc' is not a folder below that of the recordings: *"),
        ("recording='/etc'", "*recording='/etc' is not a folder below that of the recordings: *"),
        ("recording='.'", "*recording='.' is not a folder below that of the recordings: *"),
    ],
)
def test_an_invalid_marker_is_an_error_of_one_line(
    run: Callable[..., pytest.RunResult], mark: str, message: str
) -> None:
    result = run(f"""
@pytest.mark.oda({mark})
def test_image(oda_dispatcher_url):
    pass
""")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_marker_of_the_mock_overrides_recordings_of_the_configuration(
    run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    text = f"""
@pytest.fixture(scope="session")
def oda_proxy_config():
    return {{"recording": "all", "upstream": {upstream!r}}}

@pytest.mark.oda(scenario="failing-job")
def test_mock(oda_dispatcher_url):
    assert get_image(oda_dispatcher_url)["query_status"] == "failed"

def test_recording(oda_dispatcher_url, oda_proxy):
    assert oda_dispatcher_url == oda_proxy.url and oda_proxy.folder.name == "all"
    assert get_image(oda_dispatcher_url)["query_status"] == "done"
"""
    run(text, "--oda-record-mode=once").assert_outcomes(passed=2)
    assert mock_status(upstream)["runs"] == 1


def test_a_keyword_of_the_mock_is_an_error_with_recordings(run: Callable[..., pytest.RunResult]) -> None:
    result = run("""
@pytest.mark.oda(scenario="bad-gateway")
def test_image(oda_proxy):
    pass
""")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*scenario configures the mock, *: use the fixture oda_dispatcher_url"])


# -- recordings ------------------------------------------------------------------------------------


def test_once_records_if_there_are_no_recordings_and_then_replays(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    for _ in range(2):
        run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}").assert_outcomes(passed=1)
    run(IMAGE).assert_outcomes(passed=1)

    assert mock_status(upstream)["runs"] == 1
    assert recorded(project.path / "recordings/test_images/test_image") == [255.986542]


def test_once_does_not_add_to_recordings(run: Callable[..., pytest.RunResult], upstream: str) -> None:
    run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}").assert_outcomes(passed=1)
    result = run(SWALLOWED, "--oda-record-mode=once", f"--oda-upstream={upstream}")

    result.assert_outcomes(failed=1)
    assert mock_status(upstream)["runs"] == 1


def test_new_episodes_are_added_to_recordings(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    both = IMAGE + SWALLOWED.partition("\n")[2].replace("def test_image(oda_proxy):\n", "")
    result = run(both, "--oda-record-mode=new_episodes", f"--oda-upstream={upstream}")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*oda-proxy: recorded*", "*test_images/test_image: recorded 1"])
    assert mock_status(upstream)["runs"] == 2
    assert recorded(project.path / "recordings/test_images/test_image") == [250, 255.986542]
    run(both).assert_outcomes(passed=1)


def test_new_episodes_use_the_recorded_dispatcher_by_default(
    run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    """The option in the message of a miss is sufficient."""
    run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    missed = run(SWALLOWED)
    missed.assert_outcomes(failed=1)
    advised = missed.stdout.str().partition("to record it: ")[2].split()[0]

    run(SWALLOWED, advised).assert_outcomes(passed=1)
    assert mock_status(upstream)["runs"] == 2
    run(SWALLOWED).assert_outcomes(passed=1)


def test_new_episodes_of_another_dispatcher_are_refused(run: Callable[..., pytest.RunResult], upstream: str) -> None:
    run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    result = run(SWALLOWED, "--oda-record-mode=new_episodes", "--oda-upstream=http://127.0.0.1:1")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*are from {upstream}, not from http://127.0.0.1:1: record from that dispatcher*"])


def test_all_replaces_recordings(project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str) -> None:
    run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    run(SWALLOWED, "--oda-record-mode=all", f"--oda-upstream={upstream}").assert_outcomes(passed=1)
    assert recorded(project.path / "recordings/test_images/test_image") == [250]

    run(SWALLOWED, "--oda-record-mode=all", f"--oda-upstream={upstream}").assert_outcomes(passed=1)
    assert mock_status(upstream)["asked"] == {"new": 3}


def test_recordings_stay_if_nothing_could_be_recorded(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    run(IMAGE, "--oda-record-mode=all", "--oda-upstream=http://127.0.0.1:1").assert_outcomes(failed=1)

    assert recorded(project.path / "recordings/test_images/test_image") == [255.986542]


def test_a_failing_test_is_recorded_too(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    failing = f"{IMAGE}    assert False\n"
    run(failing, "--oda-record-mode=once", f"--oda-upstream={upstream}").assert_outcomes(failed=1)

    capsule = open_capsule(project.path / "recordings/test_images/test_image")
    assert capsule.exit_status == 1
    assert capsule.command == ("pytest", "test_images.py::test_image")


def test_a_job_that_still_runs_at_the_end_of_its_test_is_reported(run: Callable[..., pytest.RunResult]) -> None:
    with oda_proxy.mocking(time_scale=100) as slow:
        result = run(
            """
def test_image(oda_proxy):
    assert get_image(oda_proxy.url)["query_status"] == "submitted"
""",
            "--oda-record-mode=once",
            f"--oda-upstream={slow}",
        )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*recorded 0; not isgri isgri_image: its job was still running at the end"])


def test_a_test_without_requests_leaves_no_recordings(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult]
) -> None:
    run("def test_image(oda_proxy): pass", "--oda-record-mode=all").assert_outcomes(passed=1)
    assert not (project.path / "recordings").exists()


def test_a_folder_with_other_files_is_not_changed(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    other = project.path / "recordings/test_images/test_image/other"
    other.parent.mkdir(parents=True)
    other.write_text("mine")
    result = run(IMAGE, "--oda-record-mode=all", f"--oda-upstream={upstream}")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*test_image exists and holds no recordings; choose another folder"])
    assert other.read_text() == "mine"


def test_other_files_in_the_folder_of_recordings_stay(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    note = project.path / "recordings/test_images/test_image/README.md"
    note.write_text("mine")
    run(SWALLOWED, "--oda-record-mode=all", f"--oda-upstream={upstream}").assert_outcomes(passed=1)

    assert note.read_text() == "mine"


def test_tests_share_recordings_by_name(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    """Each replaces the recordings that it uses, and no others."""
    run(TWO, "--oda-record-mode=all", f"--oda-upstream={upstream}").assert_outcomes(passed=2)

    assert recorded(project.path / "recordings/both") == [250, 255.986542]
    run(TWO, "--oda-fail-on-unused").assert_outcomes(passed=2)


@pytest.mark.parametrize("chosen", [(), ("-k", "250")])
def test_once_records_all_tests_of_a_run_that_share_new_recordings(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str, chosen: tuple[str, ...]
) -> None:
    options = ("--oda-record-mode=once", f"--oda-upstream={upstream}")
    run(f"{TWO}{TWO.replace('test_image', 'test_again')}", *options, *chosen).assert_outcomes(
        passed=2 if chosen else 4, deselected=2 if chosen else 0
    )

    every = [250] if chosen else [250, 255.986542]
    assert recorded(project.path / "recordings/both") == every
    assert mock_status(upstream)["runs"] == len(every)


def test_once_does_not_add_to_shared_recordings_of_an_earlier_run(
    run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    options = ("--oda-record-mode=once", f"--oda-upstream={upstream}")
    run(LEAVES_ONE, *options).assert_outcomes(passed=1)

    run(TWO, *options).assert_outcomes(passed=1, failed=1)
    assert mock_status(upstream)["runs"] == 1


def test_a_changed_recording_is_an_error_with_the_name_of_its_file(
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
        ("@pytest.mark.parametrize('n', ['a'])\ndef test_a(oda_proxy, n):", "test_images/test_a[a]"),
        ("@pytest.mark.parametrize('n', ['A'])\ndef test_a(oda_proxy, n):", "test_images/test_a[A]-52037dbd"),
        ("@pytest.mark.oda(recording='deep/down')\ndef test_a(oda_proxy):", "deep/down"),
    ],
)
def test_each_test_has_a_folder_beside_its_module(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str, name: str, folder: str
) -> None:
    run(f"{name}\n    get_image(oda_proxy.url)", "--oda-record-mode=once", f"--oda-upstream={upstream}")
    assert [one.parent for one in project.path.rglob("capsule.json")] == [project.path / "recordings" / folder]


def test_a_folder_with_capitals_that_exists_is_used(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    text = "@pytest.mark.parametrize('n', ['A'])\ndef test_a(oda_proxy, n): get_image(oda_proxy.url)"
    run(text, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    (folder,) = (project.path / "recordings/test_images").iterdir()
    folder.rename(folder.with_name("test_a[A]"))

    run(text).assert_outcomes(passed=1)


def test_tests_whose_folders_differ_in_case_only_are_an_error(run: Callable[..., pytest.RunResult]) -> None:
    result = run("def test_a(oda_proxy): pass\ndef test_A(oda_proxy): pass")

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*would be in the folder of test_images.py::test_a, whose name differs in case only*"])


def test_recordings_are_in_the_folder_of_the_option(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    module = project.mkpydir("below") / "test_below.py"
    module.write_text(f"from image_query import get_image\n{IMAGE}")
    options = ("--oda-recordings=elsewhere", "--oda-record-mode=once", f"--oda-upstream={upstream}")
    run("class TestOne:\n    def test_a(self, oda_proxy): get_image(oda_proxy.url)", *options)

    assert sorted(one.parent.relative_to(project.path).as_posix() for one in project.path.rglob("capsule.json")) == [
        "elsewhere/below/test_below/test_image",
        "elsewhere/test_images/TestOne.test_a",
    ]


# -- misses ----------------------------------------------------------------------------------------


def test_a_miss_fails_a_test_that_ignored_it_and_names_the_difference(
    run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    result = run(SWALLOWED)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["oda-proxy: missed: offline: * in your query RA is 5.98654 deg smaller", "*--oda-record-mode=new_episodes"]
    )


def test_a_miss_is_in_the_report_of_another_failure(run: Callable[..., pytest.RunResult], upstream: str) -> None:
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


def test_a_test_without_recordings_misses_its_query(run: Callable[..., pytest.RunResult]) -> None:
    result = run(IMAGE)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["missed: isgri isgri_image: there are no recordings", "  in recordings/test_images/*--oda-record-mode=once"],
        consecutive=True,
    )


@pytest.mark.parametrize(
    ("request_", "missed"),
    [
        ("", "GET /api/par-names"),
        ("get_image(oda_proxy.url)", "isgri isgri_image"),
        ("get_image(oda_proxy.url, product_type='a' * 99)", f"isgri {'a' * 60}..."),
    ],
)
def test_missed_descriptions_are_reported_only_without_missed_queries(
    run: Callable[..., pytest.RunResult], request_: str, missed: str
) -> None:
    result = run(
        f"""
import urllib.request, urllib.error
@pytest.mark.xfail(strict=True, reason="misses")
def test_image(oda_proxy):
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(f"{{oda_proxy.url}}/api/par-names")
    raised.value.close()
    {request_}
    print("missed", *oda_proxy.missed, sep="; ")
""",
        "-s",
    )
    result.stdout.fnmatch_lines([f"*missed; {missed}: there are no recordings"])


@pytest.mark.parametrize("option", ["--oda-upstream", "--oda-recordings"])
def test_an_empty_option_ends_the_run(run: Callable[..., pytest.RunResult], option: str) -> None:
    result = run(IMAGE, f"{option}=")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {option} must not be empty, as '' is"])


@pytest.mark.parametrize("ending", ["pytest.skip('offline')", "assert False", "pass"])
def test_all_misses_are_listed_at_the_end_of_the_run(run: Callable[..., pytest.RunResult], ending: str) -> None:
    result = run(f"{SWALLOWED}    {ending}", "--show-capture=no", "--tb=no")

    result.stdout.fnmatch_lines(
        [
            "*oda-proxy: missed recordings*",
            "test_images.py::test_image: isgri isgri_image: there are no recordings",
        ]
    )


def test_a_miss_in_a_fixture_is_listed_at_the_end_of_the_run(run: Callable[..., pytest.RunResult]) -> None:
    result = run(
        """
@pytest.fixture
def image(oda_proxy):
    pytest.skip(get_image(oda_proxy.url)["query_status"])
def test_image(image):
    pass
"""
    )
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["test_images.py::test_image: isgri isgri_image: there are no recordings"])


@pytest.mark.parametrize("keywords", ["recording='crab'", "scenario='bad-gateway'", "time_scale=1"])
def test_a_marker_that_no_fixture_reads_fails_the_test(run: Callable[..., pytest.RunResult], keywords: str) -> None:
    result = run(f"""
@pytest.mark.oda({keywords})
def test_image():
    pass
@pytest.mark.oda({keywords})
def test_other(request):
    request.getfixturevalue("oda_proxy_config")
@pytest.mark.oda(generation="2019")
def test_dynamic(request):
    assert request.getfixturevalue("oda_dispatcher_url")
""")
    result.assert_outcomes(failed=2, passed=1)
    name = keywords.partition("=")[0]
    result.stdout.fnmatch_lines([f"oda-proxy: no fixture of this test reads the marker oda({name}=...): use *"])


UNREAD = """
pytestmark = pytest.mark.oda(seed=1)
@pytest.mark.oda(recording="crab")
class TestCrab:
    def test_one(self):
        pass
    def test_two(self):
        pass
class TestRead:
    def test_read(self, oda_dispatcher_url):
        pass
@pytest.mark.oda(generation="2019")
class TestDynamic:
    def test_nothing(self):
        pass
    def test_dynamic(self, request):
        assert request.getfixturevalue("oda_dispatcher_url")
@pytest.mark.oda(blocked=True)
class TestBlocked:
    def test_nothing(self):
        pass
"""


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "workers"])
def test_a_marker_of_a_class_that_no_test_reads_fails_the_run(
    run: Callable[..., pytest.RunResult], options: tuple[str, ...]
) -> None:
    result = run(UNREAD, *options)

    result.assert_outcomes(passed=6)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    line = "test_images.py::TestCrab: none of its 2 tests reads the marker oda(recording=...): use *"
    result.stdout.fnmatch_lines(["*oda-proxy: markers without effect*", line])
    assert result.stdout.str().count("reads the marker") == 1


def test_a_marker_of_a_module_that_no_test_reads_fails_the_run(run: Callable[..., pytest.RunResult]) -> None:
    result = run("pytestmark = pytest.mark.oda(recording='crab')\n@pytest.mark.skip\ndef test_image(): pass")

    result.assert_outcomes(skipped=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["test_images.py: its test does not read the marker oda(recording=...): use *"])


@pytest.mark.parametrize("chosen", [("-k", "test_one"), ("test_images.py::TestCrab::test_one",), ("--collect-only",)])
def test_a_marker_is_not_unread_if_some_tests_of_its_class_did_not_run(
    run: Callable[..., pytest.RunResult], chosen: tuple[str, ...]
) -> None:
    result = run(UNREAD, *chosen)

    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*markers without effect*")


def test_a_test_may_be_expected_to_miss(run: Callable[..., pytest.RunResult]) -> None:
    run(f"@pytest.mark.xfail(strict=True){SWALLOWED}").assert_outcomes(xfailed=1)


def test_a_test_can_inspect_its_usage(run: Callable[..., pytest.RunResult], upstream: str) -> None:
    run(TWO, "--oda-record-mode=all", f"--oda-upstream={upstream}")
    result = run(
        """
@pytest.mark.xfail(strict=True, reason="misses")
@pytest.mark.oda(recording="both")
def test_image(oda_proxy):
    get_image(oda_proxy.url)
    get_image(oda_proxy.url, RA="1")
    print([len(oda_proxy.used), len(oda_proxy.unused), len(oda_proxy.missed), oda_proxy.is_recording])
""",
        "-s",
    )
    result.stdout.fnmatch_lines(["*[[]1, 1, 1, False]"])


# -- unused recordings -----------------------------------------------------------------------------

LEAVES_ONE = TWO.replace('["255.986542", "250"]', '["250"]')


def test_unused_recordings_are_listed_with_the_option(run: Callable[..., pytest.RunResult], upstream: str) -> None:
    run(TWO, "--oda-record-mode=all", f"--oda-upstream={upstream}")

    silent, listed = run(LEAVES_ONE), run(LEAVES_ONE, "--oda-report-unused")

    silent.stdout.no_fnmatch_line("*unused recordings*")
    listed.stdout.fnmatch_lines(
        ["*oda-proxy: unused recordings*", "recordings/both: isgri isgri_image (*RA=255.986542*"]
    )
    assert listed.ret == 0


def test_the_option_confirms_that_all_recordings_were_used(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    run(TWO, "--oda-record-mode=all", f"--oda-upstream={upstream}")

    run(TWO).stdout.no_fnmatch_line("*oda-proxy: *")
    run(TWO, "--oda-report-unused").stdout.fnmatch_lines(["oda-proxy: all recordings were used"])
    run(f"{TWO}    assert False", "--oda-report-unused").stdout.no_fnmatch_line("*recordings were used")
    shutil.rmtree(project.path / "recordings")
    nothing = run("def test_image(): pass", "--oda-report-unused")
    nothing.stdout.fnmatch_lines(["oda-proxy: no test used recordings"])


def test_unused_recordings_fail_the_run_with_the_option(run: Callable[..., pytest.RunResult], upstream: str) -> None:
    run(TWO, "--oda-record-mode=all", f"--oda-upstream={upstream}")

    assert run(TWO, "--oda-fail-on-unused").ret == 0
    assert run(LEAVES_ONE, "--oda-fail-on-unused").ret == 1


def test_recordings_of_a_failing_test_are_not_unused(run: Callable[..., pytest.RunResult], upstream: str) -> None:
    run(TWO, "--oda-record-mode=all", f"--oda-upstream={upstream}")
    run(f"{LEAVES_ONE}    assert False", "--oda-report-unused").stdout.no_fnmatch_line("*unused recordings*")


def test_the_report_of_an_unused_recording_has_the_command_that_removes_it(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(TWO, "--oda-record-mode=all", f"--oda-upstream={upstream}")
    listed = run(LEAVES_ONE, "--oda-report-unused").stdout.str()
    command = shlex.split(listed.partition("to remove: oda-proxy ")[2].splitlines()[0])

    assert main(command) == 0

    assert recorded(project.path / "recordings/both") == [250]
    run(LEAVES_ONE, "--oda-fail-on-unused").assert_outcomes(passed=1)


def test_recordings_of_tests_and_modules_that_are_gone_are_unused(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    two = f"{IMAGE}{IMAGE.replace('test_image', 'test_other')}{LEAVES_ONE.replace('test_image', 'test_shared')}"
    run(two, "--oda-record-mode=once", f"--oda-upstream={upstream}").assert_outcomes(passed=3)
    folders = project.path / "recordings"
    shutil.copytree(folders / "test_images", folders / "test_gone")

    result = run(f"{IMAGE}def test_new(): pass", "--oda-fail-on-unused")
    result.stdout.fnmatch_lines(
        [
            "recordings/both: no test uses it",
            "  to remove: rm -r recordings/both",
            "recordings/test_gone/test_image: no test uses it",
            "recordings/test_gone/test_other: no test uses it",
            "recordings/test_images/test_other: no test uses it",
        ]
    )
    assert result.ret == 1


@pytest.mark.parametrize(
    "chosen", [("-k", "image"), ("test_images.py::test_image",), ("--deselect", "test_images.py::test_other")]
)
def test_recordings_of_tests_that_were_not_chosen_are_not_gone(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str, chosen: tuple[str, ...]
) -> None:
    two = f"{IMAGE}{IMAGE.replace('test_image', 'test_other')}"
    run(two, "--oda-record-mode=once", f"--oda-upstream={upstream}").assert_outcomes(passed=2)

    assert run(two, "--oda-fail-on-unused", *chosen).ret == 0


def test_recordings_that_a_module_not_in_the_run_may_share_are_not_gone(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    run(TWO, "--oda-record-mode=once", f"--oda-upstream={upstream}").assert_outcomes(passed=2)
    (project.path / "test_images.py").rename(project.path / "test_sharing.py")

    assert (
        run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}", "--oda-fail-on-unused", "test_images.py").ret
        == 0
    )


def test_a_renamed_test_is_told_which_recordings_fit(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    run(IMAGE, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    other = f"{SWALLOWED.replace('test_image', 'test_other')}"
    run(IMAGE + other, "--oda-record-mode=once", f"--oda-upstream={upstream}")

    renamed = run(IMAGE.replace("test_image", "test_renamed") + other)

    renamed.assert_outcomes(failed=1, passed=1)
    renamed.stdout.fnmatch_lines(
        ["  recordings/test_images/test_image fits, and no test uses it; if the test was renamed: git mv *test_renamed"]
    )
    nothing_fits = run(SWALLOWED.replace("test_image", "test_renamed"))
    nothing_fits.stdout.fnmatch_lines(["*test_images/test_other fits, *"])
    run(f"{SWALLOWED.replace('250', '249').replace('test_image', 'test_new')}").stdout.no_fnmatch_line("* fits, *")


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
def test_a_blocked_network_refuses_other_machines(run: Callable[..., pytest.RunResult], attempt: str) -> None:
    result = run(
        f"""
import socket, ssl, urllib.request
from oda_proxy.testing.network_block import NetworkBlockedError
@pytest.mark.oda(blocked=True)
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


def test_a_swallowed_refusal_fails_the_test(run: Callable[..., pytest.RunResult]) -> None:
    result = run(
        """
import socket
def contact(host):
    try:
        socket.create_connection((host, 80))
    except Exception:
        pass
def test_swallowed():
    contact("192.0.2.1")
    contact("192.0.2.1")
    contact("dispatcher.example")
@pytest.mark.oda(blocked=True)
def test_expected():
    contact("192.0.2.1")
def test_nothing():
    pass
def test_skipped():
    contact("192.0.2.7")
    pytest.skip("no network")
""",
        "--oda-block-network",
    )
    result.assert_outcomes(failed=1, passed=2, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "oda-proxy: the test contacted 192.0.2.1, dispatcher.example, which --oda-block-network refused; *",
            "*oda-proxy: refused connections*",
            "test_images.py::test_skipped: 192.0.2.7",
        ]
    )


def test_a_blocked_network_allows_this_machine(run: Callable[..., pytest.RunResult]) -> None:
    result = run(
        """
import socket
def test_here(oda_dispatcher_url):
    assert get_image(oda_dispatcher_url.replace("127.0.0.1", "localhost"))["query_status"] == "done"
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


def test_the_network_is_not_blocked_by_default(run: Callable[..., pytest.RunResult]) -> None:
    result = run("import socket\ndef test_open(): assert 'connect' not in vars(socket.socket)")
    result.assert_outcomes(passed=1)


def test_a_test_that_records_may_reach_the_network(run: Callable[..., pytest.RunResult], upstream: str) -> None:
    text = """
import socket
def test_image(oda_proxy):
    assert get_image(oda_proxy.url)["query_status"] == "done"
    with pytest.raises((OSError, RuntimeError)) as raised:
        socket.create_connection(("192.0.2.1", 80))
    print(raised.type.__name__)
"""
    options = ("-s", "--oda-block-network", "--oda-record-mode=once", f"--oda-upstream={upstream}")
    run(text, *options).stdout.fnmatch_lines(["*RefusedError*"])  # from the guard of these tests
    run(text, *options).stdout.fnmatch_lines(["*NetworkBlockedError*"])


# -- among others ----------------------------------------------------------------------------------

SMALL = "product_type='isgri_lc', time_bin='1000'"
"""Parameters that request a light curve instead of the image, whose recording takes much longer."""

MANY = f"""
@pytest.mark.parametrize("ra", range(12))
def test_mock(oda_dispatcher_url, ra):
    get_image(oda_dispatcher_url, {SMALL})
    assert mock_status(oda_dispatcher_url)["runs"] == 1
@pytest.mark.parametrize("ra", range(240, 248))
def test_own(oda_proxy, ra):
    assert get_image(oda_proxy.url, RA=str(ra), {SMALL})["query_status"] == "done"
"""
IN_FOUR = ("-p", "xdist", "-n", "4")
IN_TWO = ("-p", "xdist", "-n", "2")


@pytest.mark.slow  # starts four workers, each some times
def test_four_workers_record_and_replay(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str
) -> None:
    result = run(MANY, *IN_FOUR, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    result.assert_outcomes(passed=20)
    result.stdout.fnmatch_lines(["*oda-proxy: recorded*"])
    assert len(list(project.path.rglob("capsule.json"))) == 8

    result = run(MANY, *IN_FOUR, "--oda-block-network", "--oda-fail-on-unused")
    result.assert_outcomes(passed=20)
    assert mock_status(upstream)["runs"] == 8


@pytest.mark.slow  # starts workers, each some times
def test_workers_report_misses_and_unused_recordings(run: Callable[..., pytest.RunResult], upstream: str) -> None:
    run(TWO, "--oda-record-mode=all", f"--oda-upstream={upstream}")

    both = run(TWO, *IN_TWO, "--oda-fail-on-unused")
    both.assert_outcomes(passed=2)
    assert both.ret == 0  # though each worker used but one

    one = run(LEAVES_ONE, *IN_TWO, "--oda-fail-on-unused")
    one.stdout.fnmatch_lines(["*oda-proxy: unused recordings*", "recordings/both: *"])
    assert one.ret == 1

    missed = run(f"{SWALLOWED}    raise ValueError", *IN_TWO)
    missed.stdout.fnmatch_lines(["*- oda-proxy -*", "missed: *"])


SEVEN = TWO.replace('["255.986542", "250"]', "range(240, 247)").replace("RA=ra", f"RA=str(ra), {SMALL}")


@pytest.mark.slow  # starts workers, each some times
@pytest.mark.parametrize("mode", ["once", "all"])
def test_workers_that_record_shared_recordings_lose_none(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], upstream: str, mode: str
) -> None:
    options = (*IN_TWO, f"--oda-record-mode={mode}", f"--oda-upstream={upstream}")
    run(SEVEN, *options).assert_outcomes(passed=7)
    assert recorded(project.path / "recordings/both") == list(range(240, 247))
    assert not list(project.path.rglob(".both*"))

    run(SEVEN, *options).assert_outcomes(passed=7)
    assert mock_status(upstream)["runs"] == (14 if mode == "all" else 7)


@pytest.mark.slow  # starts workers, each some times
def test_two_sessions_that_record_shared_recordings_lose_none(project: pytest.Pytester, upstream: str) -> None:
    text = f"import pytest\nfrom image_query import get_image\n{SEVEN}"
    project.makepyfile(test_images=text)
    command = [sys.executable, "-m", "pytest", *ALONE, "--oda-record-mode=new_episodes", f"--oda-upstream={upstream}"]
    sessions = [
        subprocess.Popen([*command, "-k", chosen], cwd=project.path, stdout=subprocess.PIPE, text=True)
        for chosen in ("240 or 241 or 242 or 243", "244 or 245 or 246")
    ]
    for session in sessions:
        out, _ = session.communicate(timeout=PATIENCE)
        assert session.returncode == 0, out

    assert recorded(project.path / "recordings/both") == list(range(240, 247))


@pytest.mark.slow  # starts workers, each some times
def test_once_does_not_add_to_recordings_in_workers_either(run: Callable[..., pytest.RunResult], upstream: str) -> None:
    options = (*IN_TWO, "--oda-record-mode=once", f"--oda-upstream={upstream}")
    run(LEAVES_ONE, *options).assert_outcomes(passed=1)

    run(TWO, *options).assert_outcomes(passed=1, failed=1)


def test_options_of_pytest_recording_do_not_clash(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult]
) -> None:
    """pytest-recording has --record-mode and --block-network, and pytest refuses a second one of a name."""
    project.makeconftest("""
def pytest_addoption(parser):
    parser.addoption("--record-mode", default="all")
    parser.addoption("--block-network", action="store_true")
""")
    run("def test_one(oda_proxy): assert not oda_proxy.is_recording", "--record-mode=all").assert_outcomes(passed=1)


def test_a_run_without_the_fixtures_imports_nothing_for_them(project: pytest.Pytester) -> None:
    project.makepyfile("def test_one(): pass")
    project.makeconftest("""
import sys
def pytest_unconfigure():
    heavy = {"oda_proxy", "mock_server", "aiohttp", "asyncio", "numpy", "astropy"}
    print("imported", *sorted(name for name in sys.modules if name.partition(".")[0] in heavy))
""")
    result = project.runpytest_subprocess("-p", "oda_proxy", "-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["imported oda_proxy oda_proxy._version oda_proxy.pytest_plugin"])


def test_the_plugin_is_loaded_if_the_package_is_installed(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    project.makepyfile("def test_one(oda_dispatcher_url): assert oda_dispatcher_url")
    project.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")

    project.runpytest_subprocess().assert_outcomes(passed=1)
    project.runpytest_subprocess("-p", "no:oda_proxy").assert_outcomes(errors=1)


def test_the_marker_and_the_fixtures_are_described(run: Callable[..., pytest.RunResult]) -> None:
    run("", "--markers").stdout.fnmatch_lines(["@pytest.mark.oda(recording=..., *"])
    run("", "--fixtures").stdout.fnmatch_lines(["oda_dispatcher_url -- *", "    Return the URL*"])


# -- documentation ---------------------------------------------------------------------------------

DOCUMENT = (DOCS / "testing.md").read_text()


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language in the document."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", DOCUMENT)


def commands() -> list[list[str]]:
    """Return the commands of the workflow, split into arguments."""
    (workflow,) = map(yaml.safe_load, blocks("yaml"))
    (job,) = workflow["jobs"].values()
    return [shlex.split(step["run"]) for step in job["steps"] if "run" in step]


def test_the_workflow_installs_the_requirements_of_its_tests() -> None:
    install, test = commands()

    assert install[:4] == ["python", "-m", "pip", "install"]
    assert {"oda-proxy", "pytest", "pytest-xdist"} < set(install[4:])
    assert test[:3] == ["python", "-m", "pytest"]


@pytest.mark.real
def test_the_examples_run_as_the_workflow_runs_them(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, client_python: Callable[[str], Path], upstream: str
) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    first, configuration, control, description, second, script = blocks("python")
    (client,) = (client_python("1.3.5").parent.parent / "lib").glob("python3*/site-packages")
    project.makeconftest(f"import sys\nimport pytest\nsys.path.append({str(client)!r})\n{configuration}")
    project.makepyfile(test_images=f"{first}\n\n{control}\n\n{description}\n\n{second}")

    once = project.runpytest_subprocess("--oda-record-mode=once", f"--oda-upstream={upstream}")
    once.assert_outcomes(passed=6)
    project.runpytest_subprocess(*commands()[1][3:]).assert_outcomes(passed=6)
    assert mock_status(upstream)["runs"] == 1

    assert script.startswith("import oda_proxy")
    assert set(re.findall(r"oda_proxy\.(\w+)\(", script)) == set(oda_proxy.__all__) - {"MockControl", "__version__"}


@pytest.mark.parametrize("keyword", _KEYWORDS)
def test_a_keyword_of_the_marker_is_documented(keyword: str) -> None:
    assert re.search(rf"(?m)^\|.*`{keyword}=", DOCUMENT)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)[^)]*\)", DOCUMENT))
def test_the_links_of_the_document_exist(link: str) -> None:
    assert (DOCS / link).exists()


@pytest.mark.parametrize("option", sorted(set(re.findall(r"--oda-[a-z-]+[a-z]", DOCUMENT))))
def test_a_documented_option_exists(run: Callable[..., pytest.RunResult], option: str) -> None:
    run("", "--help").stdout.fnmatch_lines([f"*{option}*"])
