"""Failures are stored without their client, and rendered for another."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oda_proxy.compat.failure_answers import failure_body
from oda_proxy.errors import CodecError
from oda_proxy.query.cache_key import KEY_VERSION, Key, key_of
from oda_proxy.query.query import Envelope, Query, Token
from oda_proxy.recordings.failures import MAX_DOCUMENT, MAX_SIZE, Failure, parse, redact, render, serialise
from oda_proxy.recordings.redaction import NotStorableError
from tests.support.dispatcher_responses import JOB, SESSION
from tests.support.examples import examples
from tests.support.unreadable_responses import captured

KEY = Key("0123456789abcdef" * 4)
QUERY = Query("isgri", "isgri_lc", "Real", (("RA", ("83.0",)), ("scw_list", ("a", "b"))), True, (("f", "0" * 64),))
JWT = jwt.encode(
    {"email": "eve@example.org", "sub": "eve@example.org"},
    "a key of a dispatcher that is long enough for HS256",
    "HS256",
)
CLIENT = Envelope("new", SESSION, JOB, Token(JWT), {"oda_api_version": "1.2.0"})
OTHER = Envelope("new", "OTHERSESSION0000", "ffffffffffffffff", None, {"oda_api_version": "1.3.5"})
API_CODE = f'disp=DispatcherAPI(url="http://there/x")\nd={{\n"token": "{JWT}",\n"RA": 83\n}}\n'


def recorded(body: Any, status: int = 400, envelope: Envelope = CLIENT, **options: Any) -> Failure:
    """Keep a failure."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    body = {"content_type": "application/json", "key": KEY, "failed_at": 5.5, "query": QUERY, **options}
    return redact(text, envelope, status=status, **body)


def rendered(failure: Failure, envelope: Envelope = OTHER) -> Any:
    """Give a failure to somebody."""
    return json.loads(render(failure, envelope, now=99.5, address="http://here/x"))


def full(message: str = "no data", **members: Any) -> dict[str, Any]:
    """Give a failure as the dispatcher writes it."""
    return {**failure_body(message, CLIENT), "time_request": 1.5, **members}


# -- there and back --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bad_RA.400", "bad_token.403", "missing_roles.403", "analysis_fails.200"])
def test_a_failure_of_a_real_dispatcher_fails_alike(name: str) -> None:
    body = json.loads(captured(f"{name}.json.gz"))
    monitor = body.get("job_monitor", {})
    envelope = Envelope(
        "new", body.get("session_id", ""), monitor.get("job_id", ""), others={"oda_api_version": "1.3.5"}
    )

    failure = recorded(body, int(name[-3:]), envelope)
    again = rendered(failure, envelope)

    body.pop("config", None)
    for report in [monitor.get("full_report_dict", {}), *monitor.get("full_report_dict_list", [])]:
        for member in ("work_dir", "time_original_request"):
            report.pop(member, None)
        report.update({"token": None} if "token" in report else {})
    body.update({"time_request": 99.5} if "time_request" in body else {})
    assert again == body


def test_another_client_is_named_in_place_of_the_first() -> None:
    echo = {"session_id": SESSION, "token": JWT, "query_status": "new", "oda_api_version": "1.2.0", "RA": 83.0}
    failure = recorded(full(products={"analysis_parameters": echo, "api_code": API_CODE}))

    body = rendered(failure)

    assert body["session_id"] == body["job_monitor"]["session_id"] == OTHER.session_id
    assert body["job_monitor"]["job_id"] == OTHER.job_id
    assert body["time_request"] == 99.5
    assert body["query_status"] == body["job_monitor"]["status"] == "failed"
    assert body["products"]["analysis_parameters"] == {**echo, "session_id": OTHER.session_id, "token": None} | {
        "oda_api_version": "1.3.5"
    }
    assert body["products"]["api_code"] == 'disp=DispatcherAPI(url="http://here/x")\nd={\n"RA": 83\n}\n'


def test_whoever_has_a_token_gets_their_own_back() -> None:
    failure = recorded(full(products={"analysis_parameters": {"token": JWT}}))

    assert rendered(failure, CLIENT)["products"]["analysis_parameters"] == {"token": JWT}


def test_a_client_without_a_job_id_gets_the_same_one_each_time() -> None:
    assert rendered(recorded(full()), Envelope("new"))["job_monitor"]["job_id"] == KEY[:16]


def test_a_text_stays_a_text() -> None:
    failure = recorded(b"<html>The token\xc3\xa9 is not valid</html>", 403, content_type="text/html")

    assert failure.body == "<html>The token\N{LATIN SMALL LETTER E WITH ACUTE} is not valid</html>"
    assert render(failure, OTHER, now=0.0, address="") == b"<html>The token\xc3\xa9 is not valid</html>"
    assert parse(serialise(failure).encode()) == failure


@pytest.mark.parametrize("body", [b"[1, 2]", b'"text"', b"", b"null"])
def test_json_that_is_no_object_is_a_text(body: bytes) -> None:
    assert render(recorded(body), OTHER, now=0.0, address="") == body


# -- what is taken out -----------------------------------------------------------------------------

FOLDER = "/home/disp/scratch/work/x.py"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (f"session {SESSION} is gone", "session (removed) is gone"),
        (f"{{'session_id': '{SESSION}', 'token': '{JWT}'}}", "{'session_id': '(removed)', 'token': '(removed)'}"),
        (f"no record for {JOB}", "no record for (removed)"),
        ("mail eve@example.org", "mail (removed)"),
        (f'File "{FOLDER}", line 3', 'File "(removed)", line 3'),
        ("[Errno 2] No such file: '/data/resources/x.fits'", "[Errno 2] No such file: '(removed)'"),
        ("see file:///srv/disp/x", "see (removed)"),
        ("in scratch_sid_ABC_jid_DEF/log.txt", "in (removed)"),
        ("see https://www.example.org/docs/a.html, and/or a/b", "see https://www.example.org/docs/a.html, and/or a/b"),
        ("flux in erg/cm2/s", "flux in erg/cm2/s"),
    ],
)
def test_a_message_says_what_failed_and_not_for_whom_or_where(message: str, shown: str) -> None:
    for failure in (recorded(full(message)), recorded(message.encode(), content_type="text/plain")):
        assert SESSION not in serialise(failure)
        body = failure.body if isinstance(failure.body, str) else failure.body["exit_status"]["message"]
        assert body == shown


def test_the_configuration_of_the_server_is_left_out() -> None:
    failure = recorded(captured("bad_RA.400.json.gz"), envelope=Envelope())

    assert isinstance(failure.body, dict)
    assert "config" not in failure.body
    assert "/PATH/" not in serialise(failure)
    assert "Parameter RA wrong value a." in failure.body["error"]


def test_a_failure_of_a_request_with_a_token_is_private() -> None:
    assert recorded(full()).private
    assert not recorded(full(), envelope=replace(CLIENT, token=None)).private


@pytest.mark.parametrize("hidden", [SESSION.lower(), "%53" + SESSION[1:], "-".join(SESSION), "ZXZlQGV4YW1wbGUub3Jn"])
def test_what_still_names_its_client_is_not_stored(hidden: str) -> None:
    with pytest.raises(NotStorableError, match="names-a-"):
        recorded(full(hidden))
    with pytest.raises(NotStorableError, match="names-a-"):
        recorded(hidden.encode())


def test_a_header_that_names_its_client_is_not_stored() -> None:
    with pytest.raises(NotStorableError, match="names-a-session"):
        recorded(full(), content_type=f"text/html; boundary={SESSION}")


HOSTILE = {"numpy_data_product_list": [{"data_unit_list": [{"binarys": "gAJjcG9zaXgKc3lzdGVtCg=="}]}]}


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (full(), 502, "not-final"),
        (full(), 503, "not-final"),
        (full(), 429, "not-final"),
        (full(), 302, "not-final"),
        (full(query_status="done"), 200, "not-failed"),
        (b"<html>", 200, "not-failed"),
        (b" " * (MAX_SIZE + 1), 400, "too-large"),
        (b"\xff\xfe", 400, "not-an-answer"),
        (b'{"a": "\\ud800"}', 400, "not-an-answer"),
        (b'{"a": 1e999}', 400, "not-an-answer"),
        (full(products=HOSTILE), 400, "unsafe"),
    ],
)
def test_what_is_no_final_failure_is_not_stored(body: Any, status: int, word: str) -> None:
    with pytest.raises(NotStorableError, match=word):
        recorded(body, status)


# -- the document ----------------------------------------------------------------------------------


def test_what_is_written_is_read_again() -> None:
    failure = recorded(full(products={"api_code": API_CODE}))

    assert parse(serialise(failure).encode()) == failure
    assert parse(serialise(replace(failure, query=None)).encode()) == replace(failure, query=None)
    assert serialise(failure) == serialise(parse(serialise(failure).encode()))


@pytest.mark.parametrize("private", [False, True])
def test_a_failure_of_another_key_version_gets_the_key_of_its_query(private: bool) -> None:
    document = json.loads(serialise(recorded(full())))
    document |= {"key_version": KEY_VERSION + 1, "private": private}

    assert parse(json.dumps(document).encode()).key == (KEY if private else key_of(QUERY))


def spoilt(**members: Any) -> bytes:
    return json.dumps({**json.loads(serialise(recorded(full()))), **members}).encode()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not strict JSON"),
        (b"[]", "expected an object"),
        (b" " * (MAX_DOCUMENT + 1), "larger than"),
        (spoilt(format=2), "format 2"),
        (spoilt(key="x"), "'key'"),
        (spoilt(key_version="2"), "'key_version'"),
        (spoilt(status=502), "502"),
        (spoilt(status="400"), "'status'"),
        (spoilt(body=[]), "'body'"),
        (spoilt(text=1), "'text'"),
        (spoilt(content_type="text/html\r\nSet-Cookie: x"), "'content_type'"),
        (spoilt(failed_at=-1), "'failed_at'"),
        (spoilt(failed_at=True), "'failed_at'"),
        (spoilt(private="no"), "'private'"),
        (spoilt(gaps=[[]]), "not the path of a member"),
        (spoilt(gaps=[["x", 1]]), "not the path of a member"),
        (spoilt(gaps=[["x", "y"]]), "no object at the path"),
        (spoilt(gaps=[["products", 0, "y"]]), "no object at the path"),
        (spoilt(query=[]), "expected an object"),
        (spoilt(query={"instrument": "x"}), "'parameters'|'product_type'"),
        (spoilt(body={"products": {"api_code": [["a", "b"]]}}, gaps=[]), "'api_code'"),
        (spoilt(body={"products": HOSTILE}, gaps=[]), "would load"),
    ],
)
def test_what_is_not_as_written_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(CodecError, match=reason):
        parse(text)


NAMES = st.sampled_from(["session_id", "job_id", "token", "message", "api_code", "products", "Token"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=examples(200), deadline=None)
@given(body=st.dictionaries(NAMES | st.text(max_size=5), JSON, max_size=5))
def test_whatever_is_stored_can_be_serialised_parsed_and_rendered(body: dict[str, Any]) -> None:
    try:
        failure = recorded({**body, "session_id": SESSION})
    except NotStorableError:
        return
    assert parse(serialise(failure).encode()) == failure
    assert SESSION not in serialise(failure)
    assert rendered(failure)["session_id"] == OTHER.session_id
