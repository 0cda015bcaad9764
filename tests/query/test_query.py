"""A request is split into the query and the envelope, which names the client."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.errors import BadQueryError
from oda_proxy.http.message import Request
from oda_proxy.query.analysis_request import read_fields
from oda_proxy.query.query import ENVELOPE, MAX_FIELDS, Query, parse_fields, split_query

FIELDS = "instrument=isgri&product_type=isgri_image&query_type=Real"


def test_a_request_is_split_into_query_and_envelope() -> None:
    query, envelope = split_query(
        parse_fields(
            f"RA=83.0&{FIELDS}&off_line=False&query_status=new&session_id=S1&api=True&oda_api_version=1.3.5&token=T1"
        )
    )

    assert query == Query("isgri", "isgri_image", "Real", (("RA", ("83.0",)),), api=True)
    assert (envelope.query_status, envelope.session_id, envelope.job_id) == ("new", "S1", "")
    assert envelope.token is not None
    assert envelope.token.text == "T1"
    assert envelope.others == {"off_line": "False", "oda_api_version": "1.3.5"}


def test_an_envelope_does_not_print_its_secrets() -> None:
    _, envelope = split_query(parse_fields(f"{FIELDS}&token=secret-token&session_id=secret-session&job_id=secret-job"))

    assert "secret" not in repr(envelope) + str(envelope)


def test_query_string_and_form_are_one_request() -> None:
    read = split_query(parse_fields("instrument=isgri&RA=1", b"product_type=isgri_image&query_type=Real&DEC=2"))

    assert read == split_query(parse_fields(f"{FIELDS}&DEC=2&RA=1"))


def test_the_order_of_names_does_not_matter() -> None:
    assert split_query(parse_fields(f"RA=1&DEC=2&{FIELDS}")) == split_query(parse_fields(f"{FIELDS}&DEC=2&RA=1"))


def test_the_order_of_the_values_of_one_name_matters() -> None:
    assert split_query(parse_fields(f"{FIELDS}&scw_list=1&scw_list=2")) != split_query(
        parse_fields(f"{FIELDS}&scw_list=2&scw_list=1")
    )


def test_what_early_clients_always_send_is_what_later_ones_leave_out() -> None:
    assert split_query(parse_fields(f"{FIELDS}&verbose=False&dry_run=False"))[0] == split_query(parse_fields(FIELDS))[0]


@pytest.mark.parametrize("name", ["verbose", "dry_run"])
def test_what_an_early_client_sends_on_purpose_is_part_of_the_query(name: str) -> None:
    assert split_query(parse_fields(f"{FIELDS}&{name}=True"))[0] != split_query(parse_fields(FIELDS))[0]


@pytest.mark.parametrize("value", ["True", "False", ""])
def test_the_presence_of_api_counts_and_its_value_does_not(value: str) -> None:
    assert split_query(parse_fields(f"{FIELDS}&api={value}"))[0].api
    assert not split_query(parse_fields(FIELDS))[0].api


@pytest.mark.parametrize(
    ("sent", "version"),
    [
        ("", None),  # curl, a script, a page
        ("verbose=True", None),
        ("verbose=False&dry_run=False", "1.0"),
        ("verbose=True&dry_run=True", "1.0"),
        ("verbose=False&dry_run=False&oda_api_version=1.1.0", "1.1.0"),
        ("oda_api_version=1.3.5", "1.3.5"),
    ],
)
def test_a_request_without_a_version_is_from_oda_api_1_0_only_if_it_has_what_that_always_sends(
    sent: str, version: str | None
) -> None:
    assert split_query(parse_fields(f"{FIELDS}&{sent}"))[1].client_version == version


@pytest.mark.parametrize("token", ["", "None", "%00"])
def test_a_token_that_the_dispatcher_rejects_is_a_token(token: str) -> None:
    assert split_query(parse_fields(f"{FIELDS}&token={token}"))[1].token is not None


@pytest.mark.parametrize("missing", ["instrument", "product_type", "query_type"])
def test_a_request_that_lacks_what_every_query_has_is_none(missing: str) -> None:
    with pytest.raises(BadQueryError, match=missing):
        split_query([pair for pair in parse_fields(FIELDS) if pair[0] != missing])


def test_a_name_of_the_envelope_with_two_values_is_an_error() -> None:
    with pytest.raises(BadQueryError, match="session_id"):
        split_query(parse_fields(f"{FIELDS}&session_id=A&session_id=B"))


@pytest.mark.parametrize("session_id", ["a/b", "%00", "x" * 101])
def test_a_session_for_which_the_dispatcher_cannot_make_a_folder_is_not_a_query(session_id: str) -> None:
    with pytest.raises(BadQueryError, match="session_id"):
        split_query(parse_fields(f"{FIELDS}&session_id={session_id}"))


def test_the_body_of_a_get_request_is_not_part_of_the_query() -> None:
    """The dispatcher does not read it: its answer is not to what the body has."""
    headers = (("Content-Type", "application/x-www-form-urlencoded"),)
    request = Request("GET", "/run_analysis", FIELDS, headers, b"RA=1")

    with pytest.raises(BadQueryError, match="GET"):
        read_fields(request)
    assert read_fields(replace(request, body=b"")) == (parse_fields(FIELDS), [])
    assert read_fields(replace(request, method="POST")) == (parse_fields(f"{FIELDS}&RA=1"), [])


def test_files_are_sorted_by_their_fields_and_keep_their_order_within_one() -> None:
    one, other = (
        split_query(parse_fields(FIELDS), [("b", first), ("a", "3"), ("b", second)])[0]
        for first, second in ("12", "21")
    )

    assert one.files == (("a", "3"), ("b", "1"), ("b", "2"))
    assert one != other


def test_too_many_fields_are_an_error() -> None:
    with pytest.raises(BadQueryError, match=str(MAX_FIELDS)):
        parse_fields("&".join(["a=1"] * (MAX_FIELDS + 1)))


def test_bytes_that_are_no_text_stay_distinct() -> None:
    assert parse_fields("a=%80") != parse_fields("a=%81")


@given(st.text(), st.binary())
def test_any_request_is_read_or_is_a_bad_query(query_string: str, form: bytes) -> None:
    try:
        query, _ = split_query(parse_fields(query_string, form))
    except BadQueryError:
        return
    assert not ENVELOPE & {name for name, _ in query.parameters}
