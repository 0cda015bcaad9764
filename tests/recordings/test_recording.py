"""A recording is an answer without its client; splicing makes it one for another client."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Envelope
from oda_proxy.recordings.recording import MAX_SMALL, Recording, redact, splice
from oda_proxy.recordings.redaction import NotStorableError, names_client, redact_text
from tests.support.dispatcher_responses import JOB, SESSION, answer, json_bytes

KEY = Key("0123456789abcdef" * 4)
CLIENT = Envelope("new", SESSION, JOB, others={"oda_api_version": "1.3.5", "off_line": "False"})
OTHER = Envelope("new", "OTHERSESSION0000", others={"oda_api_version": "1.2.1", "off_line": "False"})


def recorded(value: Any = None, envelope: Envelope = CLIENT) -> Recording:
    return redact(json_bytes(answer() if value is None else value), envelope, key=KEY, stored_at=1.0)


def spliced(recording: Recording, envelope: Envelope) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(b"".join(splice(recording, envelope, now=1700000000.5, address="http://p")))
    return result


def test_an_answer_spliced_for_its_own_client_is_that_answer() -> None:
    sent = answer()
    sent["products"]["analysis_parameters"]["job_id"] = JOB  # the request had one

    assert spliced(recorded(sent), CLIENT) == sent


def test_another_client_is_named_wherever_the_first_one_was() -> None:
    got = spliced(recorded(), OTHER)

    assert SESSION not in json.dumps(got)
    assert got["session_id"] == got["job_monitor"]["session_id"] == got["products"]["session_id"] == OTHER.session_id
    assert got["products"]["analysis_parameters"]["session_id"] == OTHER.session_id
    assert got["products"]["analysis_parameters"]["oda_api_version"] == "1.2.1"
    assert got["job_monitor"]["job_id"] == got["products"]["job_id"] == KEY[:16]


def test_products_come_back_byte_for_byte() -> None:
    member = '"numpy_data_product_list": [ {"data" : 1.10, "n": 1e2, "t": "\\u00e9\\/"} ]'
    sent = json_bytes(answer()).replace(b'"products":{', f'"products":{{{member},'.encode(), 1)
    sent = sent.replace(json_bytes(answer()["products"]["numpy_data_product_list"]).strip(), b"0")
    sent = sent.replace(b'"numpy_data_product_list":0,', b"")

    recording = redact(sent, CLIENT, key=KEY, stored_at=1.0)

    assert b'[ {"data" : 1.10, "n": 1e2, "t": "\\u00e9\\/"} ]' in b"".join(
        splice(recording, OTHER, now=2.0, address="http://p")
    )


def test_only_the_last_piece_is_written_for_the_client() -> None:
    recording = recorded()

    one, other = (
        splice(recording, CLIENT, now=1.0, address="http://p"),
        splice(recording, OTHER, now=2.0, address="http://p"),
    )
    assert (one.begin, one.head) == (other.begin, other.head)
    assert one.head is recording.head
    assert one.end != other.end


UNKNOWN: dict[str, Any] = {
    "extra_metadata": {"a": 1},
    "prod_uris": ["https://example.org/u?v=1"],
    "gw_contours": {"a": 1.50},
    "progress_product_html_output": ["<p>"],
    "new_kind_list": ["data"],
}


def test_members_that_this_release_does_not_know_are_in_every_hit() -> None:
    sent = answer()
    sent["products"] |= UNKNOWN
    sent |= {"something_new": 5, "notes": ["x", {"y": None}]}

    hit = spliced(recorded(sent), OTHER)

    assert hit.keys() == sent.keys()
    assert hit["products"].keys() == sent["products"].keys()
    assert {name: hit["products"][name] for name in UNKNOWN} == UNKNOWN
    assert (hit["something_new"], hit["notes"]) == (5, ["x", {"y": None}])


@pytest.mark.parametrize("name", ["session_id", "job_id"])
def test_a_hit_names_its_client_in_products_only_if_the_answer_did(name: str) -> None:
    sent = answer()
    del sent["products"][name]

    assert spliced(recorded(sent), OTHER)["products"].keys() == sent["products"].keys()


def test_an_unknown_member_is_redacted() -> None:
    sent = answer()
    sent["products"]["owner"] = {"email": "x", "text": "by someone@example.org", "user_email": "y"}
    sent |= {
        "details": {"work_dir": "/x", "url": f"https://example.org/?session_id={SESSION}"},
        "config": {"a": "/etc"},
    }

    hit = spliced(recorded(sent), OTHER)

    assert hit["products"]["owner"] == {"text": "by (removed)"}
    assert hit["details"] == {"url": "https://example.org/"}
    assert "config" not in hit


@pytest.mark.parametrize(
    ("members", "products", "reason"),
    [
        ({"details": f"of {SESSION}"}, {}, "names-a-session"),
        ({}, {"details": [f"of {SESSION}"]}, "names-a-session"),
        ({}, {"details": {"session_id": "ANOTHERSESSION00", "path": "/of/ANOTHERSESSION00/x"}}, "names-a-session"),
        ({"details": "x" * MAX_SMALL}, {}, "unknown-members"),
    ],
)
def test_an_unknown_member_that_cannot_be_stored_is_the_reason_why_the_answer_is_not(
    members: dict[str, Any], products: dict[str, Any], reason: str
) -> None:
    sent = answer() | members
    sent["products"] |= products

    with pytest.raises(NotStorableError, match=reason):
        recorded(sent)


def test_what_names_the_client_or_the_folder_of_its_job_is_removed() -> None:
    sent = answer(
        exit_status={"status": 0, "message": "", "email_status": "sent to someone@example.org"},
        products={"private_note": "someone@example.org", "analysis_parameters": {"token": "T", "RA": 1.0}},
    )
    sent["job_monitor"]["full_report_dict_list"] = [{"token": "T", "work_dir": "/scratch"}]

    text = b"".join(splice(recorded(sent), OTHER, now=1.0, address="http://p"))

    assert b"example.org" not in text
    assert b"scratch" not in text
    assert b'"T"' not in text


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"query_status": "submitted"}, "not-done"),
        ({"query_status": "progress"}, "not-done"),
        ({"query_status": "ready"}, "not-done"),
        ({"query_status": "failed"}, "not-done"),
        ({"exit_status": {"status": 1, "message": "failed"}}, "not-done"),
        ({"exit_status": None}, "not-done"),
        ({"products": {"analysis_parameters": [1]}}, "not-an-answer"),
        ({"products": {"api_code": f"session {SESSION}"}}, "names-a-session"),
        ({"products": {"analysis_parameters": {"note": SESSION}}}, "names-a-session"),
        ({"products": {"session_id": "FIRSTSESSION0000", "api_code": "FIRSTSESSION0000"}}, "names-a-session"),
    ],
)
def test_what_is_not_the_complete_answer_is_not_stored(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(NotStorableError, match=word):
        recorded(answer(**changes))


def test_a_poll_answer_without_products_is_not_stored() -> None:
    with pytest.raises(NotStorableError, match="no-products"):
        recorded({**answer(), "products": {}})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"<html>",
        b'{"query_status":"done"}',
        b'{"query_status":"done","products":[],"exit_status":{"status":0}}',
        b'{"products":{"a":1,"a":2},"query_status":"done","exit_status":{"status":0}}',
        b'{"products":{},"products":{"a":1},"query_status":"done","exit_status":{"status":0}}',
        b'{"products":{"m":{"a":"FIRSTSESSION0000","a":"clean"}},"query_status":"done","exit_status":{"status":0}}',
        b'{"products":' + b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_answer_is_not_stored(body: bytes) -> None:
    with pytest.raises(NotStorableError):
        redact(body, CLIENT, key=KEY, stored_at=1.0)


@given(st.data())
def test_a_truncated_answer_is_never_stored(data: st.DataObject) -> None:
    whole = json_bytes(answer()).strip()
    size = data.draw(st.integers(0, len(whole) - 1))

    with pytest.raises(NotStorableError):
        redact(whole[:size], CLIENT, key=KEY, stored_at=1.0)


texts = st.text().filter(lambda text: redact_text(text) == text)
names = texts.filter(lambda name: not names_client(name))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=10,
)


@given(json_values, json_values)
def test_any_product_comes_back_equal(product: Any, parameter: Any) -> None:
    sent = answer(products={"numpy_data_product_list": product})
    sent["products"]["analysis_parameters"] |= {"p": parameter, "job_id": JOB}

    assert spliced(recorded(sent), CLIENT) == sent


@pytest.mark.parametrize(
    ("comment", "stored"),
    [
        ("Please note that arguments verbose, dry_run are not used", ""),
        ("Please note that argument dry_run is not used", ""),
        (
            "Please note that arguments verbose, jemx_nume are not used",
            "Please note that argument jemx_nume is not used",
        ),
        ("Please note that arguments a, verbose, b are not used", "Please note that arguments a, b are not used"),
        ("Please note that argument jemx_nume is not used", "Please note that argument jemx_nume is not used"),
        ("a remark", "a remark"),
    ],
)
def test_a_remark_on_what_early_clients_always_send_is_not_stored_for_others(comment: str, stored: str) -> None:
    sent = answer(exit_status={"status": 0, "message": "", "comment": comment})

    assert recorded(sent).exit_status["comment"] == stored


def test_a_remark_on_what_was_requested_is_stored() -> None:
    sent = answer(exit_status={"status": 0, "message": "", "comment": "Please note that argument dry_run is not used"})

    recording = redact(json_bytes(sent), CLIENT, key=KEY, stored_at=1.0, requested={"dry_run"})

    assert recording.exit_status["comment"] == "Please note that argument dry_run is not used"


def test_a_remark_on_an_argument_that_is_not_in_the_key_is_for_those_who_send_it() -> None:
    remark = "Please note that arguments verbose, x are not used"
    sent = answer(exit_status={"status": 0, "message": "", "comment": remark})

    recording = redact(json_bytes(sent), CLIENT, key=KEY, stored_at=1.0, requested={"verbose", "x"})

    assert spliced(recording, replace(CLIENT, is_verbose=True))["exit_status"]["comment"] == remark
    assert spliced(recording, CLIENT)["exit_status"]["comment"] == "Please note that argument x is not used"


@pytest.mark.parametrize("products", [{"instrument_parameters": {"n": 1}}, {"session_id": "S", "job_id": "J"}])
def test_an_answer_whose_products_are_all_of_one_part_is_spliced_to_json(products: dict[str, Any]) -> None:
    sent = answer()
    sent["products"] = products

    assert spliced(recorded(sent), CLIENT)["products"].keys() == products.keys()
