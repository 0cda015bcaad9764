"""The job_id of the mock equals the dispatcher's, by exchanges recorded with dispatchers 1.3.6 and 1.3.3."""

from __future__ import annotations

import pytest

from mock_server.job_id import job_id, job_id_2019

# `analysis_parameters` of answers of dispatcher 1.3.6, with the job_id it gave.
RECORDED = [
    (
        "f280b79c8eb51590",
        {
            "RA": 255.986542,
            "DEC": -37.844167,
            "T1": "2003-03-15T23:27:40.000",
            "osa_version": "OSA10.2",
            "detection_threshold": "5.0",
            "radius": 15.0,
            "T2": "2003-03-16T00:03:12.000",
            "time_bin": 70.0,
            "instrument": "isgri",
            "product_type": "isgri_lc",
            "query_type": "Real",
            "off_line": "False",
            "query_status": "new",
            "session_id": "HBKH5XF5SLP85EAF",
            "api": "True",
            "time_bin_format": "sec",
            "selected_catalog": None,
            "max_pointings": 50,
            "integral_data_rights": "public",
            "E1_keV": 20.0,
            "E2_keV": 40.0,
            "src_name": "1E 1740.7-2942",
            "T_format": "isot",
            "token": None,
        },
    ),
    (
        "2c1e89eb31111545",
        {
            "scw_list": ["000000000000.001"],
            "osa_version": "OSA10.2",
            "detection_threshold": 5.0,
            "radius": 15.0,
            "instrument": "isgri",
            "product_type": "isgri_image",
            "query_type": "Real",
            "image_scale_min": None,
            "max_pointings": 50,
            "integral_data_rights": "public",
            "E1_keV": 20.0,
            "E2_keV": 40.0,
            "src_name": "1E 1740.7-2942",
            "RA": 265.97845833,
            "DEC": -29.74516667,
            "T1": "2017-03-06T13:26:48.000",
            "T_format": "isot",
            "T2": "2017-03-06T15:32:27.000",
        },
    ),
]


@pytest.mark.parametrize(("expected", "parameters"), RECORDED)
def test_recorded_parameters_have_the_recorded_job_id(expected: str, parameters: dict[str, object]) -> None:
    assert job_id(parameters) == expected


def test_permuted_characters_have_the_same_job_id() -> None:
    assert job_id({"RA": 83.63}) == job_id({"RA": 38.63})


def test_values_swapped_between_two_names_have_different_job_ids() -> None:
    assert job_id({"RA": 1.0, "DEC": 2.0}) != job_id({"RA": 2.0, "DEC": 1.0})


def test_the_order_of_a_list_does_not_count() -> None:
    assert job_id({"scw_list": ["a", "b"]}) == job_id({"scw_list": ["b", "a"]})


def test_session_state_and_version_do_not_count() -> None:
    envelope = {"session_id": "S", "query_status": "ready", "job_id": "x", "api": "True", "oda_api_version": "1.3.5"}
    assert job_id({"RA": 83.0, **envelope}) == job_id({"RA": 83.0})


def test_the_subject_of_a_token_counts_even_if_it_is_empty() -> None:
    ids = {job_id({"RA": 83.0}, subject) for subject in (None, "", "user@example.org")}
    assert len(ids) == 3


def test_the_job_id_of_2019_is_a_decimal_number_that_ignores_the_session_alone() -> None:
    first = job_id_2019({"RA": "83.0", "verbose": "False", "session_id": "A"})
    assert first == job_id_2019({"RA": "83.0", "verbose": "False", "session_id": "B"})
    assert first != job_id_2019({"RA": "83.0", "verbose": "True", "session_id": "A"})
    assert int(first) != 0
