"""What a repair makes of an answer; that it helps real clients is shown in test_old_clients."""

from __future__ import annotations

import ast
import base64
import json
import math
import pickle  # noqa: TID251  # pickles as dispatchers write them
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oda_proxy.codec import pickle_allow_list, pickle_loading
from oda_proxy.compat.answer_repairs import adapted, repaired
from oda_proxy.compat.repairs import REPAIRS
from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Envelope
from oda_proxy.recordings.recording import redact, splice
from tests.support.dispatcher_responses import JOB, SESSION, answer, json_bytes
from tests.support.examples import examples
from tests.support.paths import DOCS, SAMPLES
from tests.support.unreadable_responses import (
    NULL,
    UNREADABLE,
    arrays,
    captured,
    encoded,
    fits_table,
    unit,
    with_products,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

DOCUMENT = DOCS / "repairs.md"
ASKER = Envelope("new", SESSION, JOB, others={"oda_api_version": "1.3.5", "off_line": "False"})
KEY = Key("0123456789abcdef" * 4)


def repaired_json(body: bytes, status: int = 200) -> dict[str, Any]:
    """Repair an answer."""
    parsed: dict[str, Any] = json.loads(repaired(body, status, ASKER))
    ast.literal_eval(str(parsed).replace("null", "None"))  # as clients after 1.0 do: it must not fail
    return parsed


def first_product(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = repaired_json(body)["products"]["numpy_data_product_list"][0]
    return found


# -- the table -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({repair.name for repair in REPAIRS} | {"failure", "job", "file-form"}))
def test_every_repair_is_documented_and_shown_with_real_clients(name: str) -> None:
    assert f"\n| {name} | " in DOCUMENT.read_text()
    assert any(broken.repair == name for broken in UNREADABLE.values())


@pytest.mark.parametrize(
    "body", [json_bytes(answer()), captured("isgri_lc.200.json.gz"), captured("progress.200.json.gz")]
)
def test_what_needs_no_repair_is_the_same_but_for_names_in_pickles(body: bytes) -> None:
    sent, got = json.loads(body), json.loads(repaired(body, 200, ASKER))

    for value in (sent, got):
        for item in value["products"].get("numpy_data_product_list", []):
            for data_unit in item["data_unit_list"]:
                data_unit.pop("binarys")
    assert got == sent
    assert repaired(json_bytes(answer()), 200, ASKER) == json_bytes(answer())


@pytest.mark.parametrize("name", UNREADABLE)
def test_repairing_twice_is_repairing_once(name: str) -> None:
    once = repaired(UNREADABLE[name].body, UNREADABLE[name].status, ASKER)

    assert repaired(once, UNREADABLE[name].status, ASKER) == once


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"{}", b'{"products":', b"\xff", b'{"a":' + b"[" * 100_000])
def test_a_success_that_is_not_an_answer_is_unchanged(body: bytes) -> None:
    assert repaired(body, 200, ASKER) == body


def test_members_that_need_no_repair_keep_their_bytes() -> None:
    body = (
        arrays(name=None)
        .replace(b'"exit_status":', b' "exit_status" : ')
        .replace(b'"input_prod_list":[]', b'"n": [1e2]')
    )

    text = repaired(body, 200, ASKER)

    assert b'"n":[1e2]' in text
    assert b'"name":""' in text


# -- numbers ---------------------------------------------------------------------------------------


@given(st.binary(max_size=90), st.integers(2, 5), st.sampled_from(["u1", ">i2", "<f4", ">f8"]), st.booleans())
@settings(max_examples=examples(150), deadline=None)
def test_no_repair_changes_a_bit_of_an_array(noise: bytes, protocol: int, kind: str, in_lines: bool) -> None:
    data = noise + NULL * 4 + noise
    array = np.frombuffer(data[: len(data) // 8 * 8], kind)
    text = encoded(array, protocol)
    if in_lines:
        text = text.replace("ull", "\null")

    unit_sent = first_product(arrays(unit(array, binarys=text)))["data_unit_list"][1]

    assert "null" not in unit_sent["binarys"]
    got = pickle.loads(base64.b64decode(unit_sent["binarys"]), encoding="bytes")  # noqa: S301 - of our own making
    expected = pickle.loads(base64.b64decode(text), encoding="bytes")  # noqa: S301 - of our own making
    assert (got.dtype, got.shape, got.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


@pytest.mark.parametrize("release", ["1.0", "1.2.1", "1.2.42", "1.3.5"])
def test_no_repair_changes_a_bit_of_a_table_of_astropy(release: str) -> None:
    before = (SAMPLES / f"table-{release}.pkl").read_bytes()
    text = first_product(fits_table("table", release))["data_unit_list"][1]["binarys"]

    after = base64.b64decode(text)

    assert pickle_loading.loads(after).tobytes() == pickle_loading.loads(before).tobytes()
    assert not {"numpy._core.multiarray._reconstruct", "astropy.utils.compat.numpycompat.chararray"} & {
        *pickle_allow_list.names(after)
    }


words = st.text("nul tré🙂\\\"\n/'", max_size=10)
texts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


def expected_value(value: Any) -> Any:
    """Return the value that the text of a repaired meta_data should have."""
    if value is None or isinstance(value, bool):
        return "" if value is None else int(value)
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "inf", -math.inf: "-inf"}.get(value, "nan")
    if isinstance(value, dict):
        return {name: expected_value(inner) for name, inner in value.items()}
    return [expected_value(inner) for inner in value] if isinstance(value, list) else value


@given(meta_data=st.dictionaries(words, texts, max_size=3), ascii_only=st.booleans())
@example(meta_data={"a": "a line\nullage, a word null, a path C:\\null"}, ascii_only=True)
@settings(max_examples=examples(200), deadline=None)
def test_meta_data_means_the_same_as_json_and_as_python(meta_data: Mapping[str, Any], ascii_only: bool) -> None:
    text = first_product(arrays(meta_data=json.dumps(meta_data, ensure_ascii=ascii_only)))["meta_data"]

    assert json.loads(text) == ast.literal_eval(text) == expected_value(meta_data)
    assert "null" not in text


def test_meta_data_that_is_no_json_stays_as_it_is() -> None:
    assert first_product(arrays(meta_data="{'src_name': 'x'}"))["meta_data"] == "{'src_name': 'x'}"


# -- the word null ---------------------------------------------------------------------------------


def test_a_unit_with_a_null_of_its_own_stays_as_it_is() -> None:
    body = arrays(unit(np.zeros(2), header={"COMMENT": "null", "UNDEF": None}))

    assert first_product(body)["data_unit_list"][1]["header"] == {"COMMENT": "null", "UNDEF": None}


def test_texts_stay_as_they_are_beside_one_that_is_no_object() -> None:
    texts = ["plain", {"name": "t", "value": "null"}]

    assert repaired_json(with_products(text_product_list=texts))["products"]["text_product_list"] == texts


# -- other generations' forms ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "form"), [("1.0", "str"), ("1.0.9", "dict"), ("1.2.1", "dict"), ("x", "dict"), (None, "dict")]
)
def test_a_table_has_the_form_that_the_client_reads_also_from_a_recording(version: str | None, form: str) -> None:
    body = repaired(UNREADABLE["table-meta"].body, 200, ASKER)
    client = Envelope("new", SESSION, JOB, others={} if version is None else {"oda_api_version": version})

    recording = redact(body, ASKER, key=KEY, stored_at=1.0)
    hit = json.loads(b"".join(splice(recording, client, now=1.0, address="http://p")))
    first = json.loads(adapted(body, version))

    [table] = hit["products"]["astropy_table_product_ascii_list"]
    assert type(table).__name__ == form
    assert first["products"]["astropy_table_product_ascii_list"] == [table]


@pytest.mark.parametrize(
    ("version", "form"), [("1.0", "str"), ("1.1.0", "str"), ("1.1.46", "dict"), ("1.3.5", "dict"), (None, "dict")]
)
def test_a_file_is_bare_base64_up_to_1_1_0(version: str | None, form: str) -> None:
    body = json.loads(adapted(repaired(UNREADABLE["file-object"].body, 200, ASKER), version))

    assert [type(item).__name__ for item in body["products"]["binary_data_product_list"]] == [form]


@pytest.mark.parametrize("name", [name for name, broken in UNREADABLE.items() if broken.repair != "failure"])
def test_splicing_undoes_redacting_of_what_was_repaired(name: str) -> None:
    body = repaired(UNREADABLE[name].body, 200, ASKER)
    sent = json.loads(body)
    client = Envelope("new", sent["session_id"], sent["products"]["job_id"], others=ASKER.others)

    recording = redact(body, client, key=KEY, stored_at=1.0)
    got = json.loads(b"".join(splice(recording, client, now=sent["time_request"], address="http://p")))

    assert {**got["products"], "api_code": "", "analysis_parameters": ""} == {
        **sent["products"],
        "api_code": "",
        "analysis_parameters": "",
    }


# -- failures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bad_RA.400.json.gz", "bad_token.403.json.gz"])
def test_a_failure_keeps_its_message_and_loses_the_configuration(name: str) -> None:
    body = captured(name)
    sent, got = json.loads(body), repaired_json(body, int(name.split(".")[1]))

    assert "config" in sent
    assert "config" not in got
    assert b"/PATH" not in repaired(body, 400, ASKER)
    assert {key: got[key] for key in sent if key != "config"} == {key: sent[key] for key in sent if key != "config"}
    assert got["exit_status"]["message"] == sent["error_message"]
    assert (got["query_status"], got["session_id"], got["job_monitor"]["job_id"]) == ("failed", SESSION, JOB)


def test_a_page_becomes_a_reason() -> None:
    page = (
        b"<!doctype html><title>500</title><style>p{}</style><h1>Internal&nbsp;Error</h1><p>The server\nis &lt;ill&gt;"
    )

    assert (
        repaired_json(page, 500)["error_message"] == "the dispatcher answered 500: Internal Error The server is <ill>"
    )


@pytest.mark.parametrize("products", [None, [], "x"])
def test_a_failure_with_odd_products_is_still_reported(products: Any) -> None:
    got = repaired_json(
        json_bytes({"query_status": "failed", "products": products, "exit_status": {"message": "m"}}), 403
    )

    assert got["products"] == {}
    assert got["exit_status"]["message"] == "m"
