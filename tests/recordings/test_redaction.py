"""What names a client is removed from an answer, or the answer is not stored."""

from __future__ import annotations

import base64
import itertools
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oda_proxy.compat.answer_repairs import repaired
from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Envelope, Token
from oda_proxy.recordings.fits_cards import interleave
from oda_proxy.recordings.recording import Recording, redact, splice
from oda_proxy.recordings.redaction import REMOVED, NotStorableError, redact_text, redact_value
from oda_proxy.store.disk import DiskStore
from tests.support.client_secrets import (
    ADDRESS,
    API_CODE,
    CALL_BACK,
    CANARY,
    EMAIL,
    ENVELOPE,
    HIDING,
    JOB_CANARY,
    KEY,
    OTHER_CANARY,
    SECRETS,
    STRANGER,
    TOKEN,
    URL_2019,
    WORK_DIR,
    answer_to,
    product,
    recorded,
    spliced,
)
from tests.support.dispatcher_responses import json_bytes
from tests.support.examples import examples
from tests.support.secret_search import secrets_below, secrets_in

if TYPE_CHECKING:
    from pathlib import Path

# -- api_code --------------------------------------------------------------------------------------


def test_api_code_names_the_address_and_the_token_of_the_one_who_asks() -> None:
    recording = recorded(answer_to(ENVELOPE, products={"api_code": API_CODE}))
    other = replace(STRANGER, token=Token("h.p.s"), others={"oda_api_version": "1.2.1"})

    code = json.loads(spliced(recording, other, "http://127.0.0.1:8400/mmoda"))["products"]["api_code"]

    assert "url='http://127.0.0.1:8400/mmoda'" in code
    assert '"token": "h.p.s"' in code
    assert '"oda_api_version": "1.2.1"' in code
    assert '"src_name": "Crab"' in code
    compile(code, "api_code", "exec")


def test_api_code_of_one_without_token_is_still_a_program() -> None:
    recording = recorded(answer_to(ENVELOPE, products={"api_code": API_CODE}))

    code = json.loads(spliced(recording, Envelope("new", "STRANGERSSESSION")))["products"]["api_code"]

    assert "token" not in code
    assert "oda_api_version" not in code
    compile(code, "api_code", "exec")


def test_api_code_comes_back_to_its_own_client_unchanged() -> None:
    sent = answer_to(ENVELOPE, products={"api_code": API_CODE})

    assert json.loads(spliced(recorded(sent), ENVELOPE)) == sent


# -- the law ---------------------------------------------------------------------------------------

words = st.text('xyz "\\\n/<>%&+é🙂\x7f\u2028', max_size=12)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**6), 10**6)
headers = st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9-]{0,7}", fullmatch=True), numbers | words | st.booleans())
units = st.fixed_dictionaries(
    {
        "data": st.none(),
        "dt": st.just(">f4"),
        "name": words,
        "header": headers,
        "binarys": st.none() | st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode()),
        "meta_data": st.just({}),
        "hdu_type": st.sampled_from(["primary", "image", "bintable"]),
        "units_dict": st.none() | st.dictionaries(words, words, max_size=2),
    }
)
products = st.fixed_dictionaries(
    {"name": words, "meta_data": headers.map(json.dumps), "data_unit_list": st.lists(units, max_size=3)}
)
envelopes = st.builds(
    Envelope,
    query_status=st.sampled_from(["new", "ready"]),
    session_id=st.from_regex(r"[A-Z0-9]{16}", fullmatch=True),
    job_id=st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    token=st.none() | st.just(Token(TOKEN)),
    others=st.fixed_dictionaries({"oda_api_version": st.just("1.3.5"), "off_line": st.sampled_from(["False", "True"])}),
)


@given(st.lists(products, max_size=3), words, envelopes)
@settings(max_examples=examples(100), deadline=None)
def test_splicing_undoes_redacting_of_what_is_stored(items: list[Any], note: str, envelope: Envelope) -> None:
    changes = {
        "numpy_data_product_list": items,
        "text_product_list": [note],
        "binary_data_product_list": ["QUJD"],
        "catalog": {"cat_column_list": [[1, 2], [note, "b"]]},
    }
    sent = answer_to(envelope, products=changes)

    assert json.loads(spliced(recorded(sent, envelope), envelope)) == sent


# -- names and addresses ---------------------------------------------------------------------------

HEADER_2019: dict[str, Any] = {
    "SIMPLE": True,
    "BITPIX": 8,
    "DEC": "-37.844167",
    "RA": "255.986542",
    "api": "True",
    "dry_run": "False",
    "instrument": "isgri",
    "job_id": JOB_CANARY,
    "off_line": "False",
    "query_status": "ready",
    "session_id": CANARY,
    "HIERARCH SESSION_ID": CANARY,
    "TOKEN": TOKEN,
    "url": URL_2019,
    "verbose": "False",
}


def header_of(body: bytes) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(body)["products"]["numpy_data_product_list"][0]["data_unit_list"][0]["header"]
    return header


def test_cards_of_2019_that_repeat_the_request_are_those_of_the_one_who_asks() -> None:
    recording = recorded(answer_to(ENVELOPE, products={"numpy_data_product_list": [product(header=HEADER_2019)]}))

    assert header_of(spliced(recording, STRANGER)) == {
        **{name: value for name, value in HEADER_2019.items() if name != "TOKEN"},
        "job_id": KEY[:16],
        "query_status": "new",
        "session_id": STRANGER.session_id,
        "HIERARCH SESSION_ID": STRANGER.session_id,
        "url": f"http://www.example.org/astrooda_?product_type=isgri_lc&session_id=STRANGERSSESSION&job_id={KEY[:16]}",
    }
    assert header_of(spliced(recording, ENVELOPE)) == {**HEADER_2019, "query_status": "ready"}


def test_cards_are_taken_out_of_every_product_whatever_stands_around_them() -> None:
    """The first header holds nothing else, the second is the last in its product, the text is not ASCII."""
    items = [
        product(header={"session_id": CANARY}),
        product(header={"SIMPLE": True, "NAME": "\0000", "session_id": CANARY, "ESO": "é🙂"}),
        product(),
    ]
    sent = answer_to(ENVELOPE, products={"numpy_data_product_list": items, "text_product_list": ["é"]})

    recording = recorded(sent)

    assert len(recording.gaps) == 2
    assert CANARY.encode() not in b"".join(recording.head.pieces())
    assert json.loads(spliced(recording, ENVELOPE)) == sent
    size = splice(recording, STRANGER, now=1.0, address=ADDRESS).size
    assert size == len(b"".join(splice(recording, STRANGER, now=1.0, address=ADDRESS)))


def test_a_mark_in_an_answer_is_no_gap() -> None:
    header = {"session_id": CANARY, "\x001": 0}

    with pytest.raises(NotStorableError, match="not-an-answer"):
        recorded(answer_to(ENVELOPE, products={"numpy_data_product_list": [product(header=header)]}))


@given(st.data())
@settings(deadline=None)
def test_texts_are_woven_in_at_their_offsets_however_the_head_is_cut(data: st.DataObject) -> None:
    text = data.draw(st.binary(max_size=20))
    offsets = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    cuts = sorted({0, len(text), *data.draw(st.lists(st.integers(0, len(text)), max_size=4))})
    pieces = [text[begin:end] for begin, end in itertools.pairwise(cuts)]
    inserted = [(offset, f"<{number}>".encode()) for number, offset in enumerate(offsets)]

    expected = b"".join(
        text[begin:end] + mark
        for begin, end, mark in zip([0, *offsets], [*offsets, len(text)], [*[m for _, m in inserted], b""], strict=True)
    )
    assert b"".join(interleave(pieces, inserted)) == (expected if pieces else b"")


def test_a_url_that_names_no_client_stays() -> None:
    header = {"URL": "https://www.example.org/doc?page=2", "COMMENT": "see http://a.example/?q=1"}

    assert redact_value({"header": header}) == {"header": header}


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (f"by {EMAIL}, 2003", f"by {REMOVED}, 2003"),
        (f"by {quote(EMAIL)}", f"by {REMOVED}"),
        (f"in /data/{WORK_DIR}/query_output", f"in {REMOVED}"),
        (f"call {CALL_BACK} when done", f"call {REMOVED} when done"),
        (f"token {TOKEN}", f"token {REMOVED}"),
        (f"from {URL_2019}", "from http://www.example.org/astrooda_"),
        ("A@B is no address", "A@B is no address"),
        ("by o'brien@example.org", f"by {REMOVED}"),
        ("'a': 'b@example.org'", f"'a': '{REMOVED}'"),
        ("by canary%2540example.org", f"by {REMOVED}"),
        ("by canary\\u0040example.org", f"by {REMOVED}"),
        ("by canary&#64;example.org", f"by {REMOVED}"),
        ("by canary@\u043f\u0440\u0438\u043c\u0435\u0440.\u0440\u0444", f"by {REMOVED}"),
        ("from https://me:secret@example.org/a", "from https://example.org/a"),
        ("from https://me@example.org/a@b", "from https://example.org/a@b"),
        ("back to https://example.org/#access_token=x&y=1", "back to https://example.org/"),
        ("see https://example.org/?sessionid=1#a", "see https://example.org/"),
        ("see https://example.org/?page=1#session", "see https://example.org/?page=1#session"),
    ],
)
def test_addresses_are_taken_out_of_texts(text: str, cleaned: str) -> None:
    assert redact_text(text) == cleaned


def test_members_that_name_a_client_or_its_folder_are_dropped_at_any_depth() -> None:
    value = {"work_dir": "w", "list": [{"TOKEN": 1, "email": "e", "rate": 2}], "meta": {"call_back_url": "u"}}

    assert redact_value(value) == {"list": [{"rate": 2}], "meta": {}}


@pytest.mark.parametrize(
    "name", ["sessionId", "Session-ID", "jobID", "accessToken", "API_KEY", "password", "UserName", "E-Mail", "workDir"]
)
def test_members_that_name_a_client_are_dropped_in_any_spelling(name: str) -> None:
    assert redact_value({"a": {name: "x", "name": "y"}}) == {"a": {"name": "y"}}


@pytest.mark.parametrize("name", ["OFFLINE", "SESSION", "USER", "JOB", "tokens", "QUERY"])
def test_members_of_like_names_stay(name: str) -> None:
    assert redact_value({name: "x"}) == {name: "x"}


def test_json_in_a_text_is_redacted_like_any_other() -> None:
    meta_data = json.dumps({"parameters": json.dumps([{"name": "x", "session_id": CANARY}]), "by": "j\xf6@example.org"})

    redacted = redact_value({"meta_data": meta_data, "note": "{not JSON"})

    assert json.loads(redacted["meta_data"]) == {"parameters": '[{"name":"x"}]', "by": REMOVED}
    assert redacted["note"] == "{not JSON"
    assert redact_value(' {"b": 1.50, "a": NaN}') == ' {"b": 1.50, "a": NaN}'


def test_members_whose_names_become_one_are_all_there() -> None:
    persons = {"a@example.org": 1, "b@example.org": 2, REMOVED: 3}

    assert redact_value(persons) == {REMOVED: 1, f"{REMOVED} 2": 2, f"{REMOVED} 3": 3}


def test_what_names_nobody_is_the_same_object() -> None:
    value = {"a": [1, {"b": "text"}], "header": {"RA": 1.0}}

    assert redact_value(value) is value


# -- canaries --------------------------------------------------------------------------------------

PLACES = [CANARY, OTHER_CANARY, JOB_CANARY, TOKEN, EMAIL, URL_2019, WORK_DIR, CALL_BACK, TOKEN.split(".")[2]]
MEMBERS = [
    "api_code",
    "astropy_table_product_ascii_list",
    "astropy_table_product_binary_list",
    "binary_data_product_list",
    "binary_image_product_list",
    "catalog",
    "gw_skymap_product",
    "gw_spectrogram_product",
    "gw_strain_product_list",
    "input_prod_list",
    "instrument_parameters",
    "instrumet_parameters",
    "numpy_data_product",
    "numpy_data_product_list",
    "prod_process_message",
    "text_product_list",
    "private_note",
]
hidden_secrets = st.builds(
    lambda hide, secret: HIDING[hide](secret), st.sampled_from(list(HIDING)), st.sampled_from(PLACES)
)
named_secrets = st.dictionaries(
    st.sampled_from(["session_id", "SESSION_ID", "job_id", "token", "work_dir", "email", "url", "call_back_url"]),
    st.sampled_from(PLACES),
    min_size=1,
)
taken_out = st.sampled_from([TOKEN, EMAIL, URL_2019, WORK_DIR, CALL_BACK]) | named_secrets
canaries = taken_out | taken_out | hidden_secrets | st.sampled_from(PLACES)


@st.composite
def members_with_canaries(draw: st.DrawFn) -> Any:
    """Give a member of `products` of some form, with a canary somewhere in it."""
    canary = draw(canaries)
    forms: list[Any] = [
        canary,
        [canary],
        [product(header={"SIMPLE": True, **(canary if isinstance(canary, dict) else {"COMMENT": canary})})],
        [{**product(), "meta_data": json.dumps({"query_parameters": json.dumps([canary])})}],
        {"skymaps": {"GW1": product(units_dict={"TIME": canary})}},
        [{"name": "table", "ascii": f"# {json.dumps(canary)}", "meta_data": {"about": canary}, "binary": None}],
        f'{API_CODE}# {json.dumps(canary)}\n    "session_id": "{CANARY}",\n',
    ]
    return draw(st.sampled_from(forms))


@dataclass
class Canaries:
    """What became of the answers of one run: recordings, and the reasons of those that are not stored."""

    recordings: list[Recording] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


@given(st.dictionaries(st.sampled_from(MEMBERS), members_with_canaries(), min_size=1, max_size=3), taken_out)
@settings(max_examples=examples(500), deadline=None, database=None)
def redact_canaries(found: Canaries, members: dict[str, Any], canary: Any) -> None:
    sent = answer_to(ENVELOPE, products=members)
    sent["products"]["analysis_parameters"] |= {"work_dir": WORK_DIR, "note": ""}
    sent["exit_status"] |= {"comment": json.dumps(canary), "email_status": f"sent to {EMAIL}"}
    report = {"session_id": OTHER_CANARY, "token": TOKEN, "work_dir": WORK_DIR}
    sent["job_monitor"] |= {"session_id": OTHER_CANARY, "full_report_dict_list": [report]}
    try:
        recording = redact(repaired(json_bytes(sent), 200, ENVELOPE), ENVELOPE, key=KEY, stored_at=1.0)
    except NotStorableError as reason:
        assert str(reason).startswith("names-a-"), reason  # noqa: PT017 - one of two ways
        found.refusals.append(str(reason))
        return
    found.recordings.append(recording)
    assert secrets_in(spliced(recording, STRANGER), SECRETS) == []


def test_no_canary_survives_in_a_recording_or_on_the_disk(tmp_path: Path) -> None:
    """The canaries are taken out of some answers, and others are refused: both ways are tested."""
    redact_canaries(found := Canaries())

    assert min(len(found.recordings), len(found.refusals)) > examples(500) // 20
    store = DiskStore(tmp_path)
    for number, recording in enumerate(found.recordings):
        store.put(replace(recording, key=Key(f"{number:064x}")))
    store.close()

    assert secrets_below(tmp_path, SECRETS) == {}
