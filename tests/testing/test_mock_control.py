"""The object with which a test controls a mock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import oda_proxy
from oda_proxy.errors import UsageError
from tests.support.image_query import get_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def mock() -> Iterator[oda_proxy.MockControl]:
    with oda_proxy.mocking() as url:
        yield oda_proxy.MockControl(url)


def poll(mock: oda_proxy.MockControl) -> dict[str, Any]:
    return get_image(mock.url, query_status="submitted", job_id=mock.jobs[0].job_id)


def test_a_job_is_failed_in_its_middle(mock: oda_proxy.MockControl) -> None:
    mock.hold_jobs()
    assert get_image(mock.url)["query_status"] == "submitted"
    job = mock.jobs[0].progress("half of it")
    assert (job.state, job.messages) == ("progress", ["half of it"])
    assert poll(mock)["query_status"] == "progress"
    mock.jobs[0].fail("the node died")
    assert poll(mock)["exit_status"]["message"] == "the node died"
    assert [(job.state, job.polls) for job in mock.jobs] == [("failed", 2)]


def test_a_held_job_is_finished(mock: oda_proxy.MockControl) -> None:
    mock.hold_jobs()
    get_image(mock.url)
    mock.jobs[0].submit().finish()
    assert poll(mock)["query_status"] == "ready"
    mock.hold_jobs(hold=False)
    assert get_image(mock.url, RA="250")["query_status"] == "done"


def test_a_job_can_follow_its_timeline_again(mock: oda_proxy.MockControl) -> None:
    mock.hold_jobs()
    get_image(mock.url)
    assert mock.jobs[0].by_hand
    assert not mock.jobs[0].follow_timeline().by_hand


def test_faults_are_added_and_switched_off_and_on(mock: oda_proxy.MockControl) -> None:
    fault = mock.add_fault(do="html")
    with pytest.raises(ValueError, match="Expecting value"):
        get_image(mock.url)
    fault.switch_off()
    assert get_image(mock.url)["query_status"] == "done"
    assert [(one.fault, one.active, one.struck) for one in mock.faults] == [({"do": "html"}, False, 1)]
    assert fault.switch_on().active


def test_what_was_requested_is_a_list(mock: oda_proxy.MockControl) -> None:
    get_image(mock.url, RA="250")
    (request,) = mock.requests
    assert (request.path, request.arguments["RA"], request.status) == ("/run_analysis", "250", 200)


def test_a_reset_begins_again(mock: oda_proxy.MockControl) -> None:
    get_image(mock.url)
    mock.add_fault(do="html")
    mock.reset()
    assert (mock.jobs, mock.requests, mock.faults) == ([], [], [])


def telescope(columns: dict[str, str], least: float = 0.1) -> dict[str, Any]:
    """Return the description of a telescope with spectra."""
    energy = {"name": "Emin", "units": "TeV", "value": 1.0, "kind": "energy", "restrictions": {"min_value": least}}
    output = {"name": "flux", "kind": "ascii_table", "columns": columns}
    return {
        "instrument": "tel",
        "prod_dict": {"spectrum": "spectrum_query"},
        "queries": [
            {"query_name": "src_query", "parameters": [{"name": "RA", "units": "deg", "value": 1.0}]},
            {"query_name": "spectrum_query", "product_name": "spectrum", "parameters": [energy], "outputs": [output]},
        ],
    }


def spectrum(mock: oda_proxy.MockControl) -> dict[str, Any]:
    return get_image(mock.url, instrument="tel", product_type="spectrum", Emin="2")


def test_an_instrument_is_described_while_the_mock_runs(mock: oda_proxy.MockControl, tmp_path: Path) -> None:
    assert mock.describe(telescope({"E": "TeV"})) == "tel"
    (table,) = spectrum(mock)["products"]["astropy_table_product_ascii_list"]
    assert "name: E, unit: TeV" in table["ascii"]
    file = tmp_path / "tel.json"
    file.write_text(json.dumps({"format": 1, **telescope({"F": "keV"})}))
    mock.describe(file)
    assert mock.jobs == []
    (table,) = spectrum(mock)["products"]["astropy_table_product_ascii_list"]
    assert "name: F, unit: keV" in table["ascii"]
    mock.describe(telescope({"F": "keV"}, least=3.0))
    assert "should be greater or equal than 3.0" in spectrum(mock)["error_message"]
    mock.reset()
    assert "tel" not in mock.call("instruments")["instruments"]


def test_a_shipped_instrument_is_replaced_until_the_reset(mock: oda_proxy.MockControl) -> None:
    mock.describe({**telescope({}), "instrument": "isgri"})
    assert "isgri_image" in get_image(mock.url)["error_message"]
    mock.reset()
    assert get_image(mock.url)["query_status"] == "done"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda mock: mock.add_fault(do="explode"), "there is no fault 'explode'"),
        (lambda mock: mock.describe({}), "the description cannot be read: "),
        (lambda mock: mock.describe("nosuch.json"), "nosuch.json: no description can be read: "),
        (lambda mock: mock.describe(Path("nosuch.json")), "nosuch.json: no description can be read: "),
        (lambda mock: mock.add_fault(status=503), "a fault needs 'do': one of status, "),
        (lambda mock: mock.describe({**telescope({}), "instrument": "../tel"}), "is not a path of 1 names"),
        (lambda mock: mock.describe({**telescope({}), "queries": []}), "has no description"),
        (lambda mock: mock.describe({**telescope({}), "prod_dict": {}, "queries": []}), "has no query"),
        (lambda mock: mock.describe({"instrument": {1, 2}}), "not JSON"),
        (lambda mock: oda_proxy.MockControl("http://127.0.0.1:1").jobs, "there is no mock dispatcher at http"),
        (lambda mock: oda_proxy.MockControl("nonsense").jobs, "there is no mock dispatcher at nonsense"),
    ],
)
def test_an_error_is_one_line(
    mock: oda_proxy.MockControl, change: Callable[[oda_proxy.MockControl], object], text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        change(mock)


def test_the_proxy_of_the_environment_is_not_used(mock: oda_proxy.MockControl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert mock.jobs == []


def test_the_proxy_is_not_taken_for_a_mock(mock: oda_proxy.MockControl, tmp_path: Path) -> None:
    with oda_proxy.serving(mock.url, cache_dir=tmp_path) as url:
        get_image(url)
        for read in ("jobs", "requests", "faults"):
            with pytest.raises(UsageError, match=r"not .* of a mock dispatcher"):
                getattr(oda_proxy.MockControl(url), read)


def test_a_job_that_has_not_started_is_named_with_the_number_of_jobs(mock: oda_proxy.MockControl) -> None:
    with pytest.raises(IndexError, match="the mock has 0 jobs so far, counted from 0: none is 0"):
        mock.jobs[0].fail()
    with pytest.raises(IndexError, match="the mock has 0 requests so far"):
        _ = mock.requests[-1]
    assert mock.jobs == mock.jobs[:1] == []
