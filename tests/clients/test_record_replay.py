"""A recorded run is replayed anywhere, and no request leaves the machine."""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import trustme

import oda_proxy
from tests.support.environments import GUARD
from tests.support.http_server import http_server
from tests.support.internet import Page, internet
from tests.support.namespaces import why_no_namespace
from tests.support.paths import CLIENT_SCRIPTS as CLIENTS
from tests.support.paths import SAMPLES
from tests.support.real_clients import environment
from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.support.internet import Internet

SITES = b"""\
@prefix oda: <http://odahub.io/ontology#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
oda:unige-production oda:APIURL "https://www.astro.unige.ch/mmoda/dispatch-data" ; rdfs:label "production" .
"""
"""The list of sites, as far as clients read it."""

TODAY = "https://www.astro.unige.ch/mmoda/dispatch-data"
IN_2019 = "https://www.astro.unige.ch/cdci/astrooda/dispatch-data"
"""The dispatcher as it is named in the notebook."""

QUERY = (
    "instrument=spi_acs&product_type=spi_acs_lc&query_type=Real&T1=2003-03-15T23:27:40.0&T2=2003-03-15T23:57:12.0"
    "&time_bin=2&RA=255.986542&DEC=-37.844167&query_status=new&api=True&session_id=SESSIONOFTHETEST"
)

# A program that requests addresses one after the other, and prints the answers.
CLIENT = """
import os, sys, urllib.error, urllib.request
for address in sys.argv[1:]:
    method, _, url = address.rpartition(" ")
    request = urllib.request.Request(url.replace("LISTENER", os.environ["ODA_PROXY_URL"]), method=method or "GET")
    try:
        with urllib.request.urlopen(request) as answer:
            print(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode())
"""


@dataclass(frozen=True)
class Ran:
    """How `oda-proxy record` or `replay` ended."""

    status: int
    out: str
    stderr: str


ISOLATED = ("unshare", "--map-root-user", "--net")
"""A network namespace whose loopback interface is down."""


class Runs:
    """Runs commands in a folder of its own, which is their home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def record(self, *command: str | Path, net: Internet, options: Sequence[str] = (), capsule: str = "capsule") -> Ran:
        return self._run(["record", "-o", capsule, *options, "--", *map(str, command)], net.environment)

    def replay(
        self,
        *command: str | Path,
        options: Sequence[str] = (),
        capsule: Path | str = "capsule",
        environ: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> Ran:
        return self._run(["replay", str(capsule), *options, "--", *map(str, command)], environ or {}, before)

    def _run(self, arguments: Sequence[str], environ: Mapping[str, str], before: Sequence[str] = ()) -> Ran:
        result = subprocess.run(
            [*before, *command_line(), *arguments],
            cwd=self.folder,
            env={**self.environ(), **environ},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE * 2,
            check=False,
        )
        assert "/oda_proxy/" not in result.stderr, result.stderr  # as a traceback of ours would have it
        return Ran(result.returncode, result.stdout, result.stderr)

    def environ(self) -> dict[str, str]:
        """Nothing of this run may change what a client does: no token, no address, no configuration."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("ODA_", "DISP_"))}
        return {**env, "HOME": str(self.folder), "TMPDIR": str(self.folder), "MPLBACKEND": "agg"}


def command_line() -> list[str]:
    return [sys.executable, "-m", "oda_proxy.cli"]


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    """Let the mock stand in for the dispatchers, without waiting for jobs."""
    with stand_in_internet(tmp_path_factory.mktemp("net")) as places:
        yield places


@contextmanager
def stand_in_internet(folder: Path) -> Iterator[Internet]:
    with (
        running(folder / "log", "mock", "--time-scale", "0", "--port", "0") as mock,
        internet(
            {
                "https://odahub.io/oda-sites.ttl": Page(SITES, "text/turtle"),
                "https://example.org/page": Page(b"a page"),
                "http://example.org/plain": Page(b"a page without TLS"),
                TODAY: mock.url,
                IN_2019: mock.url,
            }
        ) as places,
    ):
        yield places


def requesting(*addresses: str) -> list[str]:
    return [sys.executable, "-c", CLIENT, *addresses]


@pytest.fixture(scope="module")
def light_curve(tmp_path_factory: pytest.TempPathFactory, net: Internet) -> Path:
    """Record one answer of today's dispatcher, and return the capsule, which is read only."""
    runs = Runs(tmp_path_factory.mktemp("light-curve"))
    ran = runs.record(*requesting(f"{TODAY}/run_analysis?{QUERY}"), net=net)
    assert ran.out.startswith("200")
    return runs.folder / "capsule"


# -- notebooks of users ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Recorded:
    """A capsule of the seed notebook's cells, and what they printed when it was made."""

    folder: Path
    out: str
    version: str

    @property
    def capsule(self) -> Path:
        return self.folder / "capsule"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Recorded]:
    """Record the cells of the seed notebook with a client, once; the stand-in for the internet is stopped then."""

    @functools.cache
    def record(version: str) -> Recorded:
        folder = tmp_path_factory.mktemp(f"recorded-{version}")
        with stand_in_internet(folder) as net:
            ran = Runs(folder).record(environment(f"oda_api-{version}"), CLIENTS / "seed_notebook.py", net=net)
        assert ran.status == 0, ran.stderr
        return Recorded(folder, ran.out, version)

    return record


def comparable(out: str) -> str:
    """Leave out what differs between runs: the session ids that clients up to 1.1.0 print."""
    return re.sub(r"(?m)^session_id [0-9A-Z]{16}$", "session_id", out)


VERSIONS = ("1.0", "1.3.5")
versions = pytest.mark.parametrize("version", VERSIONS)
pytestmark = pytest.mark.slow  # each test starts several programs


@pytest.mark.real
@versions
def test_an_unmodified_notebook_prints_the_same_again(
    recorded: Callable[[str], Recorded], version: str, runs: Runs
) -> None:
    capsule = recorded(version)

    ran = runs.replay(environment(f"oda_api-{version}"), CLIENTS / "seed_notebook.py", capsule=capsule.capsule)

    assert ran.status == 0, ran.stderr
    assert comparable(ran.out) == comparable(capsule.out)
    assert "nothing missed" in ran.stderr
    assert "unused" not in ran.stderr


@pytest.mark.real
@versions
def test_a_replay_uses_no_network_even_where_there_is_one(
    recorded: Callable[[str], Recorded], version: str, runs: Runs, net: Internet
) -> None:
    before = (len(net.requests), len(net.connections))

    ran = runs.replay(
        environment(f"oda_api-{version}"),
        CLIENTS / "seed_notebook.py",
        capsule=recorded(version).capsule,
        environ=net.environment,
    )

    assert ran.status == 0, ran.stderr
    assert (len(net.requests), len(net.connections)) == before


@pytest.mark.real
@versions
def test_a_replay_needs_no_network(recorded: Callable[[str], Recorded], version: str, runs: Runs) -> None:
    """The system refuses it, not our guard."""
    if reason := why_no_namespace():
        pytest.skip(reason)
    capsule = recorded(version)
    path = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry != GUARD]

    ran = runs.replay(
        environment(f"oda_api-{version}"),
        CLIENTS / "seed_notebook.py",
        capsule=capsule.capsule,
        environ={"PYTHONPATH": os.pathsep.join(path)},
        before=ISOLATED,
    )

    assert ran.status == 0, ran.stderr
    assert comparable(ran.out) == comparable(capsule.out)
    assert "nothing missed" in ran.stderr


@pytest.mark.real
@versions
def test_a_notebook_under_jupyter_execute_gives_the_same_outputs_again(version: str, runs: Runs, net: Internet) -> None:
    python = environment(f"oda_api-{version}-jupyter")
    (runs.folder / "seed.ipynb").write_text(json.dumps(notebook(CLIENTS / "seed_notebook.py")))
    execute = [str(python.with_name("jupyter")), "execute", "--output"]

    first = runs.record(*execute, "recorded", "seed.ipynb", net=net)
    asked = len(net.requests)
    again = runs.replay(*execute, "replayed", "seed.ipynb", environ=net.environment)

    assert (first.status, again.status) == (0, 0), first.stderr + again.stderr
    assert "nothing missed" in again.stderr
    assert len(net.requests) == asked
    one, other = (outputs(runs.folder / f"{name}.ipynb") for name in ("recorded", "replayed"))
    assert any("T1" in output or "isgri" in output for output in one)
    assert one == other


def notebook(script: Path) -> dict[str, Any]:
    """Make a notebook of a script, whose cells begin with `# %%`."""
    _, *cells = script.read_text().split("# %%\n")
    return {
        "cells": [
            {
                "cell_type": "code",
                "execution_count": None,
                "id": f"cell-{number}",
                "metadata": {},
                "outputs": [],
                "source": cell.rstrip(),
            }
            for number, cell in enumerate(cells)
        ],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def outputs(file: Path) -> list[str]:
    """Return what each cell printed on standard output."""
    cells = json.loads(file.read_text())["cells"]
    return [
        comparable("".join("".join(one["text"]) for one in cell["outputs"] if one.get("name") == "stdout"))
        for cell in cells
    ]


@pytest.mark.real
def test_a_capsule_gives_identical_data_in_another_folder_and_another_environment(
    runs: Runs, net: Internet, tmp_path: Path
) -> None:
    """With numpy 1.26 and astropy 6, the data of numpy 2 and astropy 8."""
    asked = {"instrument": "isgri", "product": "isgri_spectrum", "product_type": "Real", "time_bin": 50}
    asked |= {"T1": "2003-03-15T23:27:40.0", "T2": "2003-03-16T00:03:12.0", "osa_version": "OSA10.2"}
    asked |= {"RA": 255.986542, "DEC": -37.844167, "detection_threshold": 5.0, "radius": 15.0}
    image = {**asked, "product": "isgri_image", "T2": "2003-03-16T00:03:15.0", "E1_keV": 20.0, "E2_keV": 40.0}
    del image["time_bin"]
    script = [str(CLIENTS / "get_product.py"), TODAY, json.dumps(asked), json.dumps(image)]
    first = runs.record(environment("oda_api-1.3.5"), *script, net=net)
    elsewhere = tmp_path / "else" / "where"
    elsewhere.parent.mkdir()
    (runs.folder / "capsule").rename(elsewhere)

    again = runs.replay(environment("oda_api-1.2.42"), *script, capsule=elsewhere)

    assert (first.status, again.status) == (0, 0), first.stderr + again.stderr
    one, other = (json.loads(ran.out.splitlines()[-1])["answers"] for ran in (first, again))
    assert len(one[0]["products"]) == 93
    assert one[1]["products"][0]["units"][4]["data"][0] == [455, 455]
    assert one == other


# -- the kinds of requests -------------------------------------------------------------------------


def test_a_program_that_uses_oda_proxy_url_is_recorded_and_replayed(runs: Runs, net: Internet) -> None:
    first = runs.record(*requesting(f"LISTENER/run_analysis?{QUERY}"), net=net)
    again = runs.replay(*requesting(f"LISTENER/run_analysis?{QUERY}"))

    assert first.out.startswith("200")
    assert client_view(again.out) == client_view(first.out)
    assert "recorded in capsule: 1 answer with products" in first.stderr
    assert "replayed from capsule: 1 of 1 used, nothing missed" in again.stderr


def client_view(out: str) -> tuple[int, Any]:
    """Return a dispatcher's answer without session and encoding of arrays."""
    status, _, body = out.partition(" ")
    answer = json.loads(body)
    products = answer["products"]
    lists = products.get("numpy_data_product_list", [])
    units = [(unit["name"], unit["header"]) for product in lists for unit in product["data_unit_list"]]
    return int(status), [answer["query_status"], answer["exit_status"], sorted(products), units]


def test_the_last_line_runs_it_again(runs: Runs, net: Internet) -> None:
    (runs.folder / "asker.py").write_text(CLIENT)
    first = runs.record(sys.executable, "asker.py", "https://example.org/page", net=net, capsule="a capsule")
    line = first.stderr.splitlines()[-1].partition("anywhere: oda-proxy ")[2]

    again = runs._run(shlex.split(line), {})

    assert again.out == first.out == "200 a page\n"


@pytest.mark.slow  # starts many processes
def test_upstream_replaces_the_dispatcher_of_the_command(runs: Runs, net: Internet, tmp_path: Path) -> None:
    with running(tmp_path / "log", "mock", "--time-scale", "0", "--port", "0") as mock:
        before = len(net.requests)
        first = runs.record(*requesting(f"{TODAY}/run_analysis?{QUERY}"), net=net, options=["--upstream", mock.url])
    again = runs.replay(*requesting(f"{TODAY}/run_analysis?{QUERY}"))

    assert first.out.startswith("200")
    assert len(net.requests) == before
    assert client_view(again.out) == client_view(first.out)


@pytest.mark.parametrize("page", ["https://example.org/page", "http://example.org/plain"])
def test_pages_of_other_servers_are_recorded(runs: Runs, net: Internet, page: str) -> None:
    first = runs.record(*requesting(page), net=net)
    again = runs.replay(*requesting(page))

    assert "1 page of other servers" in first.stderr
    assert again.out == first.out
    assert "a page" in first.out


def test_a_post_to_another_server_is_forwarded_and_not_recorded(runs: Runs, net: Internet) -> None:
    first = runs.record(*requesting("POST https://example.org/page"), net=net)
    again = runs.replay(*requesting("POST https://example.org/page"))

    assert first.out == "200 a page\n"
    assert "not recorded: POST https://example.org/page: only GET and HEAD are recorded" in first.stderr
    assert again.out.startswith("403 offline: POST https://example.org/page is not in the capsule")
    assert "missed: POST https://example.org/page" in again.stderr


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://nobody.example/page?name=Crab", "https://nobody.example/page: it could not be reached"),
        ("https://nobody.example/me@example.org/page", "https://nobody.example: there may be a secret in its address"),
        (
            "https://example.org/gone",
            "https://example.org/gone: neither a success, nor a redirect, nor a final failure",
        ),
    ],
)
def test_a_page_that_is_not_recorded_is_reported(runs: Runs, net: Internet, url: str, reason: str) -> None:
    ran = runs.record(*requesting(url), net=net)

    assert ran.out.startswith("502")
    assert f"not recorded: GET {reason}" in ran.stderr


def test_other_requests_to_a_dispatcher_are_forwarded_and_not_recorded(runs: Runs, net: Internet) -> None:
    address = f"{TODAY}/resolve-job-url?job_id=0123456789abcdef"

    first = runs.record(*requesting(address), net=net)
    again = runs.replay(*requesting(address))

    path = address.removeprefix("https://www.astro.unige.ch").partition("?")[0]
    assert f"not recorded: GET {path}: neither products nor a description" in first.stderr
    assert again.out.startswith("404 offline:")
    assert f"missed: GET {TODAY}/resolve-job-url: not recorded" in again.stderr


def test_a_post_to_a_path_of_a_dispatcher_that_is_no_route_is_reported_in_both(runs: Runs, net: Internet) -> None:
    """So are requests to `run_analysis` that are no queries that can be read."""
    unreadable = "/run_analysis?instrument=isgri&product_type=isgri_image&query_status=new"
    client = requesting(*(f"POST LISTENER{path}" for path in ("/nosuch", "/gw/page", "/resolve-job-url", unreadable)))

    first = runs.record(*client, net=net, options=["--upstream", TODAY])
    again = runs.replay(*client)

    keep = "only GET and HEAD are recorded; oda-proxy record --keep-post HOST records POST to a host"
    assert f"not recorded: POST {TODAY}/nosuch: {keep}\n" in first.stderr
    assert f"not recorded: POST {TODAY}/gw/page: {keep}\n" in first.stderr
    assert "not recorded: POST /resolve-job-url: neither products nor a description\n" in first.stderr
    assert "not recorded: POST /run_analysis: not a query that can be read\n" in first.stderr
    for path in ("/nosuch", "/gw/page", "/resolve-job-url", "/run_analysis"):
        assert f"missed: POST {path}: not recorded\n" in again.stderr
    assert "4 missed" in again.stderr


def test_a_secret_in_a_url_is_neither_recorded_nor_printed(runs: Runs, net: Internet) -> None:
    first = runs.record(*requesting("https://example.org/page?password=hunter2"), net=net)
    again = runs.replay(*requesting("https://example.org/page?password=hunter2"))

    assert "there may be a secret in its address" in first.stderr
    assert again.out.startswith("403")
    stderr = first.stderr.rpartition("to run it again")[0] + again.stderr
    assert "hunter2" not in stderr
    assert not any(b"hunter2" in file.read_bytes() for file in (runs.folder / "capsule").rglob("*") if file.is_file())


def test_a_query_without_a_recording_fails_at_once_with_the_nearest(runs: Runs, light_curve: Path) -> None:
    other = QUERY.replace("time_bin=2", "time_bin=4")

    again = runs.replay(*requesting(f"{TODAY}/run_analysis?{other}"), capsule=light_curve)

    assert again.out.startswith("400")
    assert "there is no recording of spi_acs spi_acs_lc as requested; the nearest is" in again.stderr
    assert "time_bin" in again.stderr
    assert "missed: offline:" in again.stderr
    assert "unused: spi_acs spi_acs_lc" in again.stderr


def test_a_dispatcher_without_recordings_is_reported(runs: Runs, light_curve: Path) -> None:
    asked = [f"{IN_2019}/api/instr-list?instrument=mock", *[f"{IN_2019}/run_analysis?{QUERY}"] * 2]

    again = runs.replay(*requesting(*asked), capsule=light_curve)

    assert again.out.startswith("404")
    assert [line[:3] for line in again.out.splitlines()[-2:]] == ["400", "400"]
    assert "0 of 1 used, 1 missed" in again.stderr
    assert f"missed: offline: the capsule is of {TODAY}, and has nothing of {IN_2019} (3 times)\n" in again.stderr


def test_misses_at_oda_proxy_url_are_reported_by_path(runs: Runs, light_curve: Path) -> None:
    again = runs.replay(
        *requesting("LISTENER/api/instr-list", "LISTENER/api/meta-data?instrument=isgri"), capsule=light_curve
    )

    assert "2 missed" in again.stderr
    assert "missed: GET /api/instr-list: not recorded\n" in again.stderr
    assert "missed: GET /api/meta-data?instrument=isgri: not recorded\n" in again.stderr


def test_a_failure_fails_alike(runs: Runs, net: Internet) -> None:
    address = f"{TODAY}/run_analysis?{QUERY.replace('RA=255.986542', 'RA=a')}"

    first = runs.record(*requesting(address), net=net)
    again = runs.replay(*requesting(address))

    assert first.out.startswith("400")
    assert "1 failure" in first.stderr
    assert client_view(again.out) == client_view(first.out)
    assert "1 of 1 used, nothing missed" in again.stderr


# -- the command -----------------------------------------------------------------------------------


def test_the_exit_status_of_the_command_is_returned(runs: Runs, net: Internet) -> None:
    failing = [sys.executable, "-c", "raise SystemExit(5)"]

    assert runs.record(*failing, net=net).status == 5
    assert runs.replay(*failing).status == 5


def test_a_command_without_requests_is_reported(runs: Runs, net: Internet) -> None:
    ran = runs.record(sys.executable, "-c", "print('done')", net=net)

    assert ran.out == "done\n"
    assert "the command sent no request to a dispatcher" in ran.stderr


def test_a_capsule_without_results_is_replaced_by_the_next(runs: Runs, net: Internet) -> None:
    runs.record(*requesting("https://nobody.example/page"), net=net)
    ran = runs.record(*requesting("https://example.org/page"), net=net)
    once_more = runs.record(*requesting("https://example.org/page"), net=net)

    assert "recorded in capsule: 1 page of other servers" in ran.stderr
    assert once_more.status == 2
    assert "capsule holds a capsule; name another folder, or replace it" in once_more.stderr


def test_a_capsule_without_results_from_python_is_replaced_too(tmp_path: Path) -> None:
    with oda_proxy.recording(tmp_path / "capsule"):
        pass
    with oda_proxy.recording(tmp_path / "capsule") as url:
        assert url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("command", ["record", "replay"])
def test_a_command_that_does_not_exist_is_reported_in_one_line(runs: Runs, net: Internet, command: str) -> None:
    ran = runs.record("no-such-command", net=net) if command == "record" else runs.replay("no-such-command")

    assert (ran.status, ran.stderr) == (127, "oda-proxy: there is no command 'no-such-command'\n")
    assert not (runs.folder / "capsule").exists()


@pytest.mark.parametrize(
    ("arguments", "stderr"),
    [
        (["record", "-o", "new"], "after --, as in oda-proxy record -o DIR -- COMMAND"),
        (["replay", "new"], "after --, as in oda-proxy replay DIR -- COMMAND"),
        (["record", "-o", "new", "--"], "there is no command to run"),
        (["record", "--", "true"], "required: -o/--output"),
        (["record", "-o", "full", "--", "true"], "full"),
        (["record", "-o", "file", "--", "true"], "file"),
        (["record", "-o", "file/below", "--", "true"], "file"),
        (["replay", "missing", "--", "true"], "there is no capsule in missing"),
        (["replay", "full", "--", "true"], "there is no capsule in full"),
        (["replay", "new", "--time-scale", "fast", "--", "true"], "--time-scale must be a number from 0"),
    ],
)
def test_wrong_arguments_are_reported_in_one_line(runs: Runs, arguments: list[str], stderr: str) -> None:
    (runs.folder / "full").mkdir()
    (runs.folder / "full" / "file").write_text("")
    (runs.folder / "file").write_text("")

    ran = runs._run(arguments, {})

    assert ran.status in {1, 2}
    assert stderr in ran.stderr
    assert ran.stderr.startswith("oda-proxy: ")
    assert ran.stderr.count("\n") == 1
    assert not (runs.folder / "new").exists()


def test_a_damaged_capsule_is_refused_before_anything_runs(runs: Runs, light_curve: Path) -> None:
    shutil.copytree(light_curve, runs.folder / "capsule")
    (file,) = (runs.folder / "capsule").rglob("answer.json")
    file.write_text(file.read_text().replace("done", "dome"))

    ran = runs.replay(sys.executable, "-c", "open('ran', 'w')")

    assert ran.status == 1
    assert "answer.json" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert not (runs.folder / "ran").exists()


# -- interruptions ---------------------------------------------------------------------------------

# A program that sends a request, prints its process id and that of a child, and waits.
WAITER = f"""
import subprocess
{CLIENT}
other = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
print("asked", os.getpid(), other.pid, flush=True)
other.wait()
"""


@contextmanager
def interrupted(runs: Runs, *arguments: str, environ: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run `oda-proxy` as the leader of a process group."""
    with subprocess.Popen(
        [*command_line(), *arguments],
        cwd=runs.folder,
        env={**runs.environ(), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody knows what a command leaves behind")
@pytest.mark.parametrize("to_all", [True, False], ids=["as-a-terminal-does", "to-us-alone"])
@pytest.mark.slow  # starts many processes
def test_a_run_that_is_interrupted_leaves_its_answers_and_no_process(runs: Runs, net: Internet, to_all: bool) -> None:
    command = ["record", "-o", "capsule", "--", sys.executable, "-c", WAITER, f"{TODAY}/run_analysis?{QUERY}"]
    with interrupted(runs, *command, environ=net.environment) as process:
        assert process.stdout is not None
        while not (line := process.stdout.readline()).startswith("asked"):
            pass
        (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=PATIENCE)

    assert process.returncode == 130, stderr
    assert "the command was ended by SIGINT" in stderr
    assert "recorded in capsule: 1 answer with products" in stderr
    assert not any(is_there(int(pid)) for pid in line.split()[1:])
    assert not list(runs.folder.glob("oda-proxy-*")), "nothing temporary is left"
    again = runs.replay(*requesting(f"{TODAY}/run_analysis?{QUERY}"))
    assert again.out.startswith("200")


@pytest.mark.slow  # starts many processes
def test_a_run_that_is_killed_leaves_a_capsule_that_can_be_replayed(runs: Runs, net: Internet) -> None:
    command = ["record", "-o", "capsule", "--", sys.executable, "-c", WAITER, f"{TODAY}/run_analysis?{QUERY}"]
    with interrupted(runs, *command, environ=net.environment) as process:
        assert process.stdout is not None
        while not (line := process.stdout.readline()).startswith("asked"):
            pass
        process.kill()
        process.wait(PATIENCE)
    for pid in line.split()[1:]:
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)

    again = runs.replay(*requesting(f"{TODAY}/run_analysis?{QUERY}"))

    assert again.out.startswith("200")
    assert "1 of 1 used, nothing missed" in again.stderr


# -- tokens ----------------------------------------------------------------------------------------


def token(**claims: Any) -> str:
    return jwt.encode(
        {"sub": "somebody@example.org", "roles": "general", **claims},
        "the key of a dispatcher that nobody knows",
        "HS256",
    )


def test_answers_to_a_token_are_left_out_and_counted(runs: Runs, net: Internet) -> None:
    asked = f"{TODAY}/run_analysis?{QUERY}&token={token()}"

    first = runs.record(*requesting(asked), net=net)
    again = runs.replay(*requesting(asked))

    assert first.out.startswith("200")
    assert "left out: 1 answer that was requested with a token; --include-private" in first.stderr
    assert again.out.startswith("400")


@pytest.mark.slow  # starts many processes
def test_answers_to_a_token_can_be_recorded_for_everyone(runs: Runs, net: Internet) -> None:
    first = runs.record(
        *requesting(f"{TODAY}/run_analysis?{QUERY}&token={token()}"), net=net, options=["--include-private"]
    )
    for client in ("", f"&token={token(exp=1)}", f"&token={token(sub='another')}"):
        again = runs.replay(*requesting(f"{TODAY}/run_analysis?{QUERY}{client}"))
        assert client_view(again.out) == client_view(first.out)
        assert "1 of 1 used, nothing missed" in again.stderr
    files = [file.read_bytes() for file in (runs.folder / "capsule").rglob("*") if file.is_file()]
    assert not any(token().encode() in content or b"somebody@" in content for content in files)


def test_descriptions_requested_with_a_token_are_recorded_without_one(runs: Runs, net: Internet) -> None:
    address = f"{TODAY}/api/meta-data?instrument=isgri"

    first = runs.record(*requesting(f"{address}&token={token()}"), net=net)
    again = runs.replay(*requesting(f"{address}&token={token(exp=1)}", address))

    assert again.out == first.out * 2
    assert "recorded in capsule: 1 description" in first.stderr


# -- time ------------------------------------------------------------------------------------------

# A program that polls a job until its end, and prints its states.
FOLLOWER = """
import json, sys, urllib.parse, urllib.request
url, states, step = sys.argv[1], [], {"query_status": "new"}
while not states or states[-1] not in ("done", "failed"):
    with urllib.request.urlopen(f"{url}&{urllib.parse.urlencode(step)}") as answer:
        told = json.load(answer)
    step = {"query_status": told["query_status"], "job_id": told["job_monitor"]["job_id"]}
    states += [step["query_status"]]
print(json.dumps(list(dict.fromkeys(states))))
"""


@pytest.mark.slow  # starts many processes
def test_jobs_go_through_their_states_with_a_time_scale(runs: Runs, tmp_path: Path) -> None:
    asked = QUERY.replace("&query_status=new", "").replace("spi_acs_lc", "isgri_image").replace("spi_acs", "isgri")
    asked = asked.replace(
        "&time_bin=2", "&E1_keV=20.0&E2_keV=40.0&osa_version=OSA10.2&radius=15.0&detection_threshold=5.0"
    )
    asked = asked.replace("2003-03-15T23:57:12.0", "2003-03-16T00:03:15.0")
    with (
        running(tmp_path / "log", "mock", "--time-scale", "0.02", "--port", "0") as mock,
        internet({TODAY: mock.url}) as net,
    ):
        follow = [sys.executable, "-c", FOLLOWER, f"{TODAY}/run_analysis?{asked}"]
        runs.record(*follow, net=net)

    again = runs.replay(*follow, options=["--time-scale", "1"])
    at_once = runs.replay(*follow)

    (answer,) = (runs.folder / "capsule").rglob("answer.json")
    recorded = [state for state, _ in json.loads(answer.read_text())["timeline"]]
    assert "submitted" in recorded
    states = json.loads(again.out)
    assert (states[0], states[-1]) == ("submitted", "done")
    assert json.loads(at_once.out) == ["done"]


@pytest.mark.real
def test_what_astropy_downloads_is_recorded_too(runs: Runs, net: Internet) -> None:
    """It trusts the bundle of the package certifi, not that of the environment."""
    download = (environment("oda_api-1.3.5"), CLIENTS / "download.py", "https://example.org/page")

    first, again = runs.record(*download, net=net), runs.replay(*download)

    assert (first.status, again.status) == (0, 0), first.stderr + again.stderr
    assert first.out == again.out == "a page\n"


def test_a_job_that_is_running_at_the_end_is_reported(runs: Runs, net: Internet, tmp_path: Path) -> None:
    image = QUERY.replace("spi_acs_lc", "isgri_image").replace("spi_acs", "isgri").replace("&time_bin=2", "")
    image = image.replace(
        "T2=2003-03-15T23:57:12.0", "T2=2003-03-16T00:03:15.0&E1_keV=20.0&E2_keV=40.0&osa_version=OSA10.2"
    )
    image += "&detection_threshold=5.0&radius=15.0"
    with running(tmp_path / "log", "mock", "--time-scale", "1000", "--port", "0") as slow:
        ran = runs.record(*requesting(f"LISTENER/run_analysis?{image}"), net=net, options=("--upstream", slow.url))

    assert '"query_status":"submitted"' in ran.out
    assert "not recorded: isgri isgri_image: its job was still running at the end" in ran.stderr


# -- credentials -----------------------------------------------------------------------------------

# A program that sends its arguments as credentials: in a header, as user and password, in a form.
SENDER = """
import base64, sys, urllib.request
url, bearer, login, password = sys.argv[1:]
basic = base64.b64encode(login.encode()).decode()
for headers, body in (({"X-Api-Key": bearer}, None), ({"Authorization": f"Basic {basic}"}, None),
                      ({}, f"password={password}".encode())):
    urllib.request.urlopen(urllib.request.Request(url, body, headers)).read()
"""


@pytest.mark.parametrize("url", ["https://example.org/page", "http://example.org/plain"])
@pytest.mark.slow  # starts many processes
def test_what_a_command_sent_as_credentials_is_nowhere_in_its_capsule(runs: Runs, net: Internet, url: str) -> None:
    sent = ["hunter-2-bearer", "bob:hunter-2-basic", "hunter-2-form"]
    (runs.folder / "sender.py").write_text(SENDER)

    ran = runs.record(sys.executable, "sender.py", url, *sent, net=net)

    assert ran.status == 0, ran.stderr
    assert "left out: 3 arguments of the command that may hold a secret" in ran.stderr
    files = [file for file in (runs.folder / "capsule").rglob("*") if file.is_file()]
    assert len(files) >= 2
    assert not any(b"hunter-2" in file.read_bytes() for file in files)
    assert "hunter-2" not in ran.stderr


def test_an_interrupted_run_has_no_credentials_in_its_capsule_either(runs: Runs, net: Internet) -> None:
    script = SENDER + "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n"
    sent = ["hunter-2-bearer", "bob:hunter-2-basic", "hunter-2-form"]
    (runs.folder / "sender.py").write_text(script)

    runs.record(sys.executable, "sender.py", "https://example.org/page", *sent, net=net)

    manifest = json.loads((runs.folder / "capsule" / "capsule.json").read_text())
    assert manifest["ended"] is None
    assert manifest["command"][2:] == ["https://example.org/page", *["(removed)"] * 3]


def test_a_command_that_may_hold_a_secret_in_its_code_is_left_out(runs: Runs, net: Internet) -> None:
    code = "password = input; print('log in with the password')"

    ran = runs.record(sys.executable, "-c", code, net=net)

    assert "left out: the command, which may hold a secret" in ran.stderr
    assert json.loads((runs.folder / "capsule" / "capsule.json").read_text())["command"] == ["(removed)"]


# -- the home folder -------------------------------------------------------------------------------

# A program that fetches products with the client's own cache.
CACHING = """
import sys
from oda_api.api import DispatcherAPI
disp = DispatcherAPI(url=sys.argv[1], instrument="mock", use_local_cache=True)
data = disp.get_product(instrument="spi_acs", product="spi_acs_lc", product_type="Real", time_bin=2,
                        T1="2003-03-15T23:27:40.0", T2="2003-03-15T23:57:12.0", RA=255.986542, DEC=-37.844167)
print(data._p_list[0].name)
"""


@pytest.mark.real
def test_a_warm_cache_of_the_client_makes_no_empty_capsule(runs: Runs, net: Internet) -> None:
    python = environment("oda_api-1.3.5")
    subprocess.run(
        [python, "-c", CACHING, TODAY], env={**runs.environ(), **net.environment}, check=True, capture_output=True
    )
    assert list((runs.folder / ".cache" / "oda-api").iterdir()), "the cache is not warm"

    first = runs.record(python, "-c", CACHING, TODAY, net=net)
    shutil.rmtree(runs.folder / ".cache")
    again = runs.replay(python, "-c", CACHING, TODAY)

    assert "recorded in capsule: 1 answer with products" in first.stderr
    assert "not used: the cache of oda_api in ~/.cache/oda-api: the run had an empty one" in first.stderr
    assert again.out == first.out != ""


# -- certificates ----------------------------------------------------------------------------------

# A program that fetches a page past every proxy, and one that checks no certificate.
PAST_PROXIES = """
import http.client, ssl, sys, urllib.parse
address = urllib.parse.urlsplit(sys.argv[1])
connection = http.client.HTTPSConnection(address.hostname, address.port, context=ssl.create_default_context())
connection.request("GET", address.path)
print(connection.getresponse().read().decode())
"""
UNVERIFIED = CLIENT.replace(
    "urlopen(request)", "urlopen(request, context=__import__('ssl')._create_unverified_context())"
)


@contextmanager
def private_server(folder: Path) -> Iterator[tuple[str, Path]]:
    """Run a server with TLS whose certificate is that of an authority of its own."""
    ca, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    ca.cert_pem.write_to_path(folder / "private.pem")
    with http_server(lambda _: Page(b"a private page"), context=context) as server:
        yield server.url, folder / "private.pem"


def test_programs_that_go_past_the_proxy_trust_what_they_did(runs: Runs, net: Internet, tmp_path: Path) -> None:
    with private_server(tmp_path) as (url, bundle):
        environ = {**net.environment, "SSL_CERT_FILE": str(bundle)}
        ran = runs._run(["record", "-o", "c", "--", sys.executable, "-c", PAST_PROXIES, f"{url}/x"], environ)

    assert ran.out == "a private page\n", ran.stderr


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_page_of_a_private_authority_is_recorded(runs: Runs, net: Internet, variable: str) -> None:
    environ = {name: value for name, value in net.environment.items() if value != str(net.bundle)}

    first = runs._run(
        ["record", "-o", "capsule", "--", *requesting("https://example.org/page")],
        {**environ, variable: str(net.bundle)},
    )
    again = runs.replay(*requesting("https://example.org/page"))

    assert first.out == again.out == "200 a page\n", first.stderr


def test_a_server_that_is_not_trusted_is_up_to_the_program(runs: Runs, net: Internet) -> None:
    environ = {name: value for name, value in net.environment.items() if value != str(net.bundle)}
    page = "https://example.org/page"

    refused = runs._run(["record", "-o", "a", "--", *requesting(page)], environ)
    ran = runs._run(["record", "-o", "b", "--", sys.executable, "-c", UNVERIFIED, page], environ)

    assert refused.status != 0
    assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr
    assert ran.out == "200 a page\n", ran.stderr
    assert runs.replay(*requesting(page), capsule="b").out == "200 a page\n"


@pytest.mark.skipif(shutil.which("wget") is None and not os.environ.get("CI"), reason="there is no wget")
def test_wget_is_recorded_with_the_configuration_of_the_user(runs: Runs, net: Internet) -> None:
    (runs.folder / ".wgetrc").write_text("user_agent = as the user says\n")
    wget = ["wget", "--quiet", "-O-", "https://example.org/page"]

    first, again = runs.record(*wget, net=net), runs.replay(*wget)

    assert first.out == again.out == "a page", first.stderr + again.stderr
    assert "1 page of other servers" in first.stderr
    assert "may depend on files that are not in the capsule: ~/.wgetrc" in first.stderr
    shown = runs.record("sh", "-c", "cat $WGETRC", net=net, capsule="other")
    assert re.fullmatch(r"user_agent = as the user says\nca_certificate = .*\nuse_proxy = on\n", shown.out)


def test_a_replay_trusts_its_own_authority_alone(runs: Runs, net: Internet) -> None:
    runs.record(*requesting("https://example.org/page"), net=net)
    count = "import os; print(open(os.environ['SSL_CERT_FILE']).read().count('BEGIN CERTIFICATE'))"

    again = runs.replay(sys.executable, "-c", count, environ=net.environment)

    assert again.out == "1\n"


@pytest.mark.parametrize("command", ["record", "replay"])
def test_connections_past_the_proxy_are_named(runs: Runs, net: Internet, command: str) -> None:
    connect = "import socket\ntry:\n    socket.create_connection(('192.0.2.1', 443), 0.01)\nexcept OSError:\n    pass"
    runs.record(*requesting("https://example.org/page"), net=net)

    program = [sys.executable, "-c", connect]
    ran = runs.record(*program, net=net, capsule="other") if command == "record" else runs.replay(*program)

    assert "not seen, past oda-proxy: 192.0.2.1:443" in ran.stderr


# -- other services --------------------------------------------------------------------------------

# A program that posts its arguments to an address one after the other, and prints the answers.
POSTING = """
import sys, urllib.request
for body in sys.argv[2:]:
    with urllib.request.urlopen(sys.argv[1], body.encode()) as answer:
        print(answer.status, answer.read().decode())
"""


@pytest.fixture
def services(net: Internet) -> Iterator[Internet]:
    """Give places that fail for good, and a service whose answers to one request differ in time."""
    phases = iter(["QUEUED", "EXECUTING", "EXECUTING", "COMPLETED", "COMPLETED", "COMPLETED"])
    with internet(
        {
            **net.places,
            "https://example.org/gone": Page(b"no such page", status=404),
            "https://example.org/slow": Page(b"later", status=429),
            "https://tap.example/tap/sync": Page(b"<VOTABLE/>", "application/x-votable+xml"),
            "https://tap.example/tap/async/1/phase": lambda _: Page(next(phases).encode()),
        }
    ) as places:
        yield places


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_page_that_was_not_there_is_not_there_again(runs: Runs, services: Internet, method: str) -> None:
    page = f"{method} https://example.org/gone"

    first, again = runs.record(*requesting(page), net=services), runs.replay(*requesting(page))

    assert first.out == again.out
    assert first.out.startswith("404")
    assert "1 page of other servers" in first.stderr


def test_a_failure_of_the_moment_is_not_recorded(runs: Runs, services: Internet) -> None:
    first = runs.record(*requesting("https://example.org/slow"), net=services)

    assert first.out.startswith("429")
    assert "https://example.org/slow: neither a success, nor a redirect, nor a final failure" in first.stderr


def test_a_head_is_answered_from_a_get_and_from_a_head(runs: Runs, services: Internet) -> None:
    pages = ["https://example.org/page", "HEAD http://example.org/plain"]
    first = runs.record(*requesting(*pages), net=services)

    again = runs.replay(*requesting("HEAD https://example.org/page", "HEAD http://example.org/plain"))

    assert "2 pages of other servers" in first.stderr
    assert again.out == "200 \n200 \n"


def test_a_post_to_a_host_that_is_named_is_recorded_by_its_body(runs: Runs, services: Internet) -> None:
    post = [sys.executable, "-c", POSTING, "https://tap.example/tap/sync", "QUERY=SELECT+1"]

    first = runs.record(*post, net=services, options=["--keep-post", "TAP.example"])
    again, other = runs.replay(*post), runs.replay(*post[:-1], "QUERY=SELECT+2")

    assert first.out == again.out == "200 <VOTABLE/>\n"
    assert "1 of 1 used, nothing missed" in again.stderr
    assert "missed: POST https://tap.example/tap/sync: not in the capsule" in other.stderr
    assert not any(b"SELECT" in file.read_bytes() for file in (runs.folder / "capsule/exchanges").iterdir())


def test_a_service_that_answers_differently_in_time_does_so_again(runs: Runs, services: Internet) -> None:
    """As an asynchronous TAP service does."""
    phase = "https://tap.example/tap/async/1/phase"

    first = runs.record(*requesting(*[phase] * 5), net=services, options=["--keep-post=tap.example"])
    again = runs.replay(*requesting(*[phase] * 4))

    assert first.out.split() == [
        "200",
        "QUEUED",
        "200",
        "EXECUTING",
        "200",
        "EXECUTING",
        "200",
        "COMPLETED",
        "200",
        "COMPLETED",
    ]
    assert again.out.split() == ["200", "QUEUED", "200", "EXECUTING", "200", "COMPLETED", "200", "COMPLETED"]


def test_pages_below_the_address_of_a_dispatcher_are_recorded(runs: Runs, net: Internet) -> None:
    """As those of services beside it, such as lists of science windows."""
    page = "/gw/timesystem/api/v1.0/scwlist/cons/2017-03-06T00:00:00/2017-03-07T00:00:00?&ra=83&dec=22"
    with internet({**net.places, f"{TODAY}/gw": Page(b'["1234567.001"]')}) as places:
        first = runs.record(*requesting(f"{TODAY}{page}", f"{TODAY}/run_analysis?{QUERY}"), net=places)

    again = runs.replay(*requesting(f"{TODAY}{page}", f"LISTENER{page}"))

    assert first.out.startswith('200 ["1234567.001"]')
    assert again.out == '200 ["1234567.001"]\n' * 2


@pytest.mark.parametrize(("options", "recorded"), [([], False), (["--max-page=20MB"], True)])
def test_a_large_page_is_recorded_where_that_is_wanted(
    runs: Runs, net: Internet, options: list[str], recorded: bool
) -> None:
    large = "https://example.org/large"
    measure = ["sh", "-c", f"curl -s {large} | wc -c"]
    with internet({**net.places, large: Page(b"x" * 17_000_000)}) as places:
        first = runs.record(*measure, net=places, options=options)

    assert first.out.strip() == "17000000"
    assert ("too large; oda-proxy record --max-page SIZE records larger pages" in first.stderr) != recorded
    assert (runs.replay(*measure).out.strip() == "17000000") == recorded


def test_nothing_missed_is_not_said_where_nothing_was_requested(runs: Runs, light_curve: Path) -> None:
    ran = runs.replay(sys.executable, "-c", "", capsule=light_curve)

    assert f"the command sent no request: 0 of 1 of {light_curve} used" in ran.stderr
    assert "nothing missed" not in ran.stderr


def test_a_replay_runs_in_a_network_namespace_of_its_own(runs: Runs, light_curve: Path) -> None:
    if reason := why_no_namespace():
        pytest.skip(f"no network namespaces here: {reason}")

    ran = runs.replay(*requesting(f"{TODAY}/run_analysis?{QUERY}"), capsule=light_curve, before=ISOLATED)

    assert ran.out.startswith("200")
    assert "1 of 1 used, nothing missed" in ran.stderr


# -- the closing lines -----------------------------------------------------------------------------

ANYWHERE, IN_PART = "to run it again, anywhere: ", "to run it again, as far as it was recorded: "


@pytest.mark.parametrize(
    ("requests", "ending", "is_whole"),
    [
        (["https://example.org/page"], "", True),
        (["https://example.org/page"], "raise SystemExit(1)", True),
        (["https://example.org/page", "https://nobody.example/page"], "", False),
        (["https://example.org/page", "POST https://example.org/page"], "", False),
        (["https://example.org/page", f"{TODAY}/run_analysis?{QUERY}&token=TOKEN"], "", False),
        (["https://example.org/page"], "import signal; os.kill(os.getpid(), signal.SIGTERM)", False),
        (["https://example.org/page"], "import socket; socket.socket().connect_ex(('192.0.2.1', 443))", False),
    ],
)
def test_anywhere_is_said_of_whole_capsules_only(
    runs: Runs, net: Internet, requests: list[str], ending: str, is_whole: bool
) -> None:
    (runs.folder / "asker.py").write_text(f"{CLIENT}{ending}\n")
    addresses = [address.replace("TOKEN", token()) for address in requests]

    ran = runs.record(sys.executable, "asker.py", *addresses, net=net)

    assert (ANYWHERE in ran.stderr, IN_PART in ran.stderr) == (is_whole, not is_whole), ran.stderr


# -- reproducible files, and what ran --------------------------------------------------------------


@pytest.mark.parametrize("epoch", [None, "1234567890"])
def test_a_replay_has_the_source_date_epoch_of_its_recording(runs: Runs, net: Internet, epoch: str | None) -> None:
    """With it, the PDF files that matplotlib writes are equal."""
    show = [sys.executable, "-c", "import os; print(os.environ['SOURCE_DATE_EPOCH'])"]
    environ = {**net.environment, **({"SOURCE_DATE_EPOCH": epoch} if epoch else {})}

    first = runs._run(["record", "-o", "capsule", "--", *show], environ)
    again = runs.replay(*show)

    assert first.out == again.out
    assert first.out.strip() == (epoch or first.out.strip())
    assert int(first.out) > 1_000_000_000


# A program that plots what it requested, and prints the digest of the file; it draws at another time in each run.
PLOTTING = """
import hashlib, sys, time, urllib.request
import matplotlib.pyplot as plt
from pathlib import Path
time.sleep(1.1)
urllib.request.urlopen(sys.argv[1]).read()
plt.plot([1, 2, 3])
plt.savefig("plot.pdf")
print(hashlib.sha256(Path("plot.pdf").read_bytes()).hexdigest(), b"/CreationDate" in Path("plot.pdf").read_bytes())
"""


@pytest.mark.parametrize("epoch", ["", "1700000000"])
def test_a_pdf_file_of_matplotlib_is_equal_in_a_recording_and_its_replays(
    runs: Runs, net: Internet, epoch: str
) -> None:
    program = [sys.executable, "-c", PLOTTING, f"{TODAY}/run_analysis?{QUERY}"]
    environ = {**net.environment, **({"SOURCE_DATE_EPOCH": epoch} if epoch else {})}

    first = runs._run(["record", "-o", "capsule", "--", *program], environ)
    again = [runs.replay(*program), runs.replay(*program, environ={"SOURCE_DATE_EPOCH": "1"})]
    alone = subprocess.run(
        [sys.executable, "-c", PLOTTING, f"{net.url}/"],
        cwd=runs.folder,
        env=runs.environ(),
        capture_output=True,
        check=False,
    )

    digest = first.out.split()
    assert digest[1:] == ["True"], first.stderr
    assert [ran.out.split() for ran in again] == [digest] * 2
    assert digest[0].encode() not in alone.stdout


def test_a_capsule_of_format_1_has_a_source_date_epoch_too(runs: Runs) -> None:
    again = runs.replay(
        sys.executable, "-c", "import os; print(os.environ['SOURCE_DATE_EPOCH'])", capsule=SAMPLES / "capsule-1"
    )

    assert again.out == "1700000000\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_packages_of_a_program_that_was_ended_are_in_its_capsule(
    runs: Runs, net: Internet, number: signal.Signals
) -> None:
    ran = runs.record(sys.executable, "-c", f"import iniconfig, os; os.kill(os.getpid(), {number:d})", net=net)

    assert f"the command was ended by {number.name}" in ran.stderr
    manifest = json.loads((runs.folder / "capsule" / "capsule.json").read_text())
    assert manifest["versions"]["packages"]["iniconfig"] == [version("iniconfig")]


@pytest.mark.parametrize("command", ["record", "replay"])
def test_it_is_said_whose_connections_past_the_proxy_are_sampled(runs: Runs, net: Internet, command: str) -> None:
    runs.record(*requesting("https://example.org/page"), net=net)

    ran = runs.record("true", net=net, capsule="other") if command == "record" else runs.replay("true")
    python = runs.record(sys.executable, "-c", "pass", net=net, capsule="third")

    assert "connections past oda-proxy of true: looked up 20 times a second at most, so that" in ran.stderr
    assert "connections past oda-proxy" not in python.stderr


def test_the_packages_that_a_run_imported_are_in_its_capsule(runs: Runs, net: Internet) -> None:
    runs.record(sys.executable, "-c", "import numpy", net=net)

    manifest = json.loads((runs.folder / "capsule" / "capsule.json").read_text())
    assert manifest["versions"]["packages"]["numpy"] == [version("numpy")]
    assert "astropy" not in manifest["versions"]["packages"]
    assert manifest["versions"]["interpreters"] == [platform.python_version()]
    assert f"| numpy | {version('numpy')} |" in (runs.folder / "capsule" / "README.md").read_text()
