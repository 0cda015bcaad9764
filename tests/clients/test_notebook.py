"""The cells of the notebook TestAPI, run by unmodified clients on the mock and through the proxy, print its outputs."""

from __future__ import annotations

import re
from contextlib import ExitStack
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from tests.support.notebook_outputs import (
    DIFFERENCES,
    PRINTED,
    QUERIES,
    RUNS,
    Run,
    comparable,
    expected,
    on_a_terminal,
    shown,
)
from tests.support.real_clients import environment
from tests.support.servers import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Cells: TypeAlias = Callable[[Run], dict[str, Any]]

pytestmark = pytest.mark.real

# What a client cannot draw with the numpy that it comes with, or of the products that it is sent.
UNDRAWN = {
    ("1.0", "today", "selected_plot"): "Axis limits cannot be NaN or Inf",
    ("1.1.0", "today", "selected_plot"): "Axis limits cannot be NaN or Inf",
    ("1.2.1", "today", "selected_plot"): "`np.NaN` was removed in the NumPy 2.0 release",
    ("1.2.1", "2019", "selected_plot"): "`np.NaN` was removed in the NumPy 2.0 release",
    ("1.2.1", "today", "polar_plot"): "'bytes' object has no attribute 'meta_data'",
    ("1.2.1", "2019", "polar_plot"): "'bytes' object has no attribute 'meta_data'",
}
SYNCHRONOUS = ("polar", "acs")


@pytest.fixture(scope="module")
def proxies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Return the function that starts a proxy before a mock of a generation, once, and returns its URL."""
    urls: dict[str, str] = {}
    with ExitStack() as stack:

        def url(generation: str) -> str:
            if generation not in urls:
                folder = tmp_path_factory.mktemp("servers")
                mock = stack.enter_context(running(folder / "mock-log", *mock_of(generation)))
                arguments = ["--upstream", mock.url, "--port", "0", "--cache-dir", str(folder / "cache")]
                urls[generation] = stack.enter_context(running(folder / "log", "serve", *arguments)).url
            return urls[generation]

        yield url


def mock_of(generation: str) -> list[str]:
    return ["mock", "--generation", generation, "--time-scale", "0.02", "--port", "0"]


@pytest.fixture(scope="module")
def cells(
    proxies: Callable[[str], str], run_client_in: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Cells:
    """Return the function that runs the notebook, once for each run; runs without a proxy have a new mock each."""
    seen: dict[Run, dict[str, Any]] = {}

    def outcome(run: Run) -> dict[str, Any]:
        if run not in seen:
            environment(f"oda_api-{run.version}")  # where it is missing, each test of the run is skipped
            seen[run] = {}
            folder = tmp_path_factory.mktemp(str(run))
            with ExitStack() as stack:
                if run.route == "proxy":
                    url = proxies(run.generation)
                else:
                    url = stack.enter_context(running(folder / "log", *mock_of(run.generation))).url
                seen[run] = run_client_in(folder, run.version, "notebook.py", url, str(folder))
        assert seen[run], "the run failed where its first cell was looked at"
        return seen[run]

    return outcome


# Tests that look at one run stay together, so that no other worker runs it, too.
all_runs = pytest.mark.parametrize(
    "run", [pytest.param(run, marks=pytest.mark.xdist_group(str(run))) for run in RUNS], ids=str
)


@all_runs
@pytest.mark.parametrize("cell", [cell for cell in PRINTED if cell != "dry_run"])
def test_a_cell_gives_what_the_notebook_prints(cells: Cells, run: Run, cell: str) -> None:
    outcome = cells(run)[cell]

    assert "error" not in outcome
    assert comparable(cell, shown(cell, outcome, run), run) == comparable(cell, expected(cell, run), run)


@all_runs
def test_the_failing_dry_run_reports_the_bad_angle_as_far_as_the_client_does(cells: Cells, run: Run) -> None:
    """Clients from 1.1.46 on send no dry run; those before show little of an answer with status 400."""
    outcome = cells(run)["dry_run"]
    error, message = outcome["error"]
    output = on_a_terminal(outcome["output"])

    if run.generation == "2019":
        printed = PRINTED["dry_run"].partition("query failed!")[2]
        assert printed.rstrip() in output
        assert error == ("SystemExit" if run.version in ("1.0", "1.1.0") else "RemoteException")
        if run.version == "1.0":
            expects = expected("dry_run", run).rstrip()
            assert comparable("dry_run", output.rstrip(), run) == comparable("dry_run", expects, run)
            assert re.fullmatch(r"RemoteException \(line \d+\): Remote analysis exception", message)
    elif run.version in ("1.0", "1.1.0"):
        assert error == "SystemExit"
    else:
        assert error == "RequestNotUnderstood"
        assert "Parameter RA wrong value a. could not convert string to float: 'a'" in message


@all_runs
@pytest.mark.parametrize("cell", ["selected_plot", "lc_plot", "polar_plot", "acs_plot"])
def test_a_picture_is_drawn_where_the_client_can(cells: Cells, run: Run, cell: str) -> None:
    outcome = cells(run)[cell]

    if reason := UNDRAWN.get((run.version, run.generation, cell)):
        assert reason in outcome["error"][1]
    else:
        assert outcome["value"] is True


@all_runs
def test_the_products_of_jem_x_are_as_many_as_a_user_expects(cells: Cells, run: Run) -> None:
    """The notebook shows none of them."""
    counts = [len(cells(run)[f"jemx_{product}_names"]["value"]) for product in ("image", "lc", "spectrum")]

    assert counts == [2, 1, 3]


@pytest.mark.xdist_group(str(Run("1.0", "2019", "mock")))
@pytest.mark.parametrize("cell", QUERIES)
def test_only_what_takes_no_job_is_done_at_once(cells: Cells, cell: str) -> None:
    output = cells(Run("1.0", "2019", "mock"))[cell]["output"]

    assert ("the job has been submitted on the remote server" in output) == (cell not in SYNCHRONOUS)


def test_every_difference_is_one() -> None:
    """The table has no entry without an effect."""
    for difference in DIFFERENCES:
        runs = [run for run in RUNS if run.version in difference.versions and run.generation in difference.generations]
        texts = [text for cell, text in PRINTED.items() if fnmatch(cell, difference.cells)]
        assert any(difference.change(text, run) != text for text in texts for run in runs), difference.reason
