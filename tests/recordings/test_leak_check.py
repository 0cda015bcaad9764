"""An answer in which a secret of its client can be read, however it is written, is not stored."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.codec.json_steps import STEP
from oda_proxy.query.query import Envelope, Token
from oda_proxy.recordings import byte_patterns, leak_check, skeleton, text_set
from oda_proxy.recordings.leak_check import check_no_secrets, collect_secrets
from oda_proxy.recordings.redaction import NotStorableError
from oda_proxy.recordings.unpacking import unpacked
from tests.support.client_secrets import (
    CANARY,
    ENVELOPE,
    HIDING,
    JOB_CANARY,
    OTHER_CANARY,
    TOKEN,
    answer_to,
    b64,
    product,
    recorded,
    segment,
)
from tests.support.dispatcher_responses import JOB


@pytest.mark.parametrize(
    ("secret", "word"),
    [
        (CANARY, "names-a-session"),
        (OTHER_CANARY, "names-a-session"),
        (JOB_CANARY, "names-a-job"),
        (TOKEN.split(".")[2], "names-a-token"),
        (TOKEN.split(".")[1], "names-a-token"),
        ("Canary Owner", "names-a-person"),
    ],
)
@pytest.mark.parametrize("hidden", HIDING)
def test_a_secret_in_a_product_is_recognised_however_it_is_written(secret: str, word: str, hidden: str) -> None:
    sent = answer_to(ENVELOPE, products={"numpy_data_product_list": [product(binarys=HIDING[hidden](secret))]})
    sent["job_monitor"]["session_id"] = OTHER_CANARY  # a job that another person began

    with pytest.raises(NotStorableError, match=word):
        recorded(sent)


@pytest.mark.parametrize(
    "split",
    [
        {"first": CANARY[:7], "second": CANARY[7:]},
        [{"name": "a", "value": CANARY[:7]}, {"name": CANARY[7:]}],
        [CANARY[:7], [CANARY[7:]]],
        [*CANARY],
    ],
)
def test_a_secret_that_is_split_over_members_is_recognised(split: Any) -> None:
    with pytest.raises(NotStorableError, match="names-a-session"):
        recorded(answer_to(ENVELOPE, products={"gw_skymap_product": split}))


@pytest.mark.parametrize(
    "text", ["Jos\u00e9 N\u00fa\u00f1ez", "Jose Nunez", "JOSE\u0301 NUN\u0303EZ", "Jos\\u00e9 N\\u00fa\\u00f1ez"]
)
def test_a_person_is_recognised_with_and_without_accents(text: str) -> None:
    token = ".".join(
        [segment({"alg": "HS256"}), segment({"sub": "x", "name": "Jos\u00e9 N\u00fa\u00f1ez"}), "c2lnbmF0dXJl"]
    )

    with pytest.raises(NotStorableError, match="names-a-person"):
        recorded(answer_to(replace(ENVELOPE, token=Token(token)), products={"text_product_list": [f"for {text}"]}))


@pytest.mark.parametrize("name", ["sessionId", "SESSION-ID", "session id"])
def test_the_session_of_another_is_known_by_any_spelling_of_its_member(name: str) -> None:
    sent = answer_to(ENVELOPE, products={"text_product_list": [f"as for {OTHER_CANARY}"]})
    sent["job_monitor"]["report"] = {name: OTHER_CANARY}

    with pytest.raises(NotStorableError, match="names-a-session"):
        recorded(sent)


def test_the_session_of_another_in_a_card_is_recognised_in_the_data() -> None:
    header = {"SIMPLE": True, "SESSION_ID": OTHER_CANARY}
    products = {"numpy_data_product_list": [product(header=header, binarys=b64(f"of {OTHER_CANARY}".encode()))]}

    with pytest.raises(NotStorableError, match="names-a-session"):
        recorded(answer_to(ENVELOPE, products=products))


def test_an_id_of_a_source_is_no_session() -> None:
    header = {"SIMPLE": True, "SID": "GAIA-123456789", "TOKEN": "a", "JOB": "12345678"}
    texts = ["GAIA-123456789", "a table", "12345678"]

    recorded(
        answer_to(ENVELOPE, products={"numpy_data_product_list": [product(header=header)], "text_product_list": texts})
    )


def test_a_token_in_a_file_is_recognised_whoever_it_belongs_to() -> None:
    other = ".".join([segment({"alg": "HS256"}), segment({"sub": "another"}), "c2lnbmF0dXJl"])
    file = b64(gzip.compress(f"SIMPLE = T / {other}".encode()))

    with pytest.raises(NotStorableError, match="names-a-token"):
        recorded(answer_to(ENVELOPE, products={"binary_data_product_list": [file]}))


def test_a_token_is_recognised_where_no_secret_is_known() -> None:
    with pytest.raises(NotStorableError, match="names-a-token"):
        check_no_secrets([b64(f"for {TOKEN}".encode())], collect_secrets(Envelope()))


def test_a_file_that_cannot_be_searched_to_its_end_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leak_check, "unpacked", lambda data, scan: unpacked(data, scan=scan, limit=1000))
    file = b64(gzip.compress(b"\0" * 1001))

    with pytest.raises(NotStorableError, match="too-large"):
        recorded(answer_to(ENVELOPE, products={"binary_data_product_list": [file]}))


@pytest.mark.parametrize("step", [1, 2, 5, 7])
@pytest.mark.parametrize("hidden", HIDING)
def test_a_secret_is_recognised_wherever_a_large_text_is_divided(
    hidden: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leak_check, "STEP", step)
    sent = answer_to(ENVELOPE, products={"numpy_data_product_list": [product(binarys=HIDING[hidden](CANARY))]})

    with pytest.raises(NotStorableError, match="names-a-session"):
        recorded(sent)


@pytest.mark.parametrize("short", ["S", "abc", "me-1"])
def test_a_short_session_is_recognised_as_a_word(short: str) -> None:
    envelope = Envelope("new", short, JOB)

    with pytest.raises(NotStorableError, match="names-a-session"):
        recorded(answer_to(envelope, products={"text_product_list": [f"for {short}: done"]}), envelope)
    recorded(answer_to(envelope, products={"text_product_list": ["ISDCabcme-12"]}), envelope)


def test_a_name_of_a_member_can_be_a_secret() -> None:
    sent = answer_to(ENVELOPE, products={"gw_skymap_product": {"skymaps": {CANARY: {}}}})

    with pytest.raises(NotStorableError, match="names-a-session"):
        recorded(sent)


def test_where_there_is_no_job_its_name_is_no_secret() -> None:
    check_no_secrets([{"n": 25 * 10**16, "text": "0" * 20}], collect_secrets(Envelope(job_id="0" * 16)))


NOISE = "Zm9vYmFyBmF6cXV4+/"
"""Base64 without a secret."""


@pytest.mark.parametrize("around", [0, 9_000, 300_000])
@pytest.mark.parametrize("hidden", HIDING)
def test_a_secret_is_recognised_in_a_large_text(hidden: str, around: int) -> None:
    noise = (NOISE * (around // len(NOISE) + 1))[:around]
    sent = answer_to(ENVELOPE, products={"text_product_list": [noise + HIDING[hidden](CANARY) + noise]})

    with pytest.raises(NotStorableError, match="names-a-session"):
        recorded(sent)


@pytest.mark.parametrize("hidden", [CANARY, f"{CANARY[:7]}/{CANARY[7:]}", f"{CANARY[:7]}CONTINUE{CANARY[7:]}"])
@pytest.mark.parametrize("at", [STEP - 5, STEP, 2 * STEP - 9])
def test_a_secret_is_recognised_at_the_end_of_a_step(hidden: str, at: int) -> None:
    noise = NOISE * (2 * STEP // len(NOISE))
    sent = answer_to(ENVELOPE, products={"text_product_list": [noise[:at] + hidden + noise]})

    with pytest.raises(NotStorableError, match="names-a-session"):
        recorded(sent)


@pytest.mark.parametrize("split", [4, 8, 12])
def test_a_secret_is_recognised_at_the_ends_of_a_large_text_that_was_searched_before(split: int) -> None:
    noise = NOISE * (2 * STEP // len(NOISE))
    text = CANARY[split:] + noise + CANARY[:split]
    for values in ([CANARY[:split], text], [text, CANARY[split:]], [text, noise, text, CANARY[split:]]):
        check = leak_check.LeakCheck(collect_secrets(ENVELOPE), lambda other: other == text)
        check.add(["a", text, "b"])
        check.add(["c", text, "d"])

        with pytest.raises(NotStorableError, match="names-a-session"):
            check.add(values)


FRAGMENTS = (
    *(CANARY[:7], CANARY[7:], CANARY, CANARY.lower(), CANARY.encode().hex(), JOB_CANARY, TOKEN, *TOKEN.split(".")),
    *("CONTINUE", "continue", "%", "%43", "%2543", "\\u0043", "\\x43", "&#67;", "&#x43;", "ey", "eyJ", ".", "\n", "\0"),
    *(b64(CANARY.encode()), b64(gzip.compress(CANARY.encode())), b64(b"x\x9c" + zlib.compress(TOKEN.encode()))),
    *("\xe9", "\u2026", "PK", "Canary", "Owner", NOISE, NOISE * 10, "-" * 50, "-" * 4100, "-" * 8300),
)


def is_refused(value: Any, decoded: bytes) -> bool:
    """Return whether a value is refused, one text of which is known to be base64 of data."""
    check = leak_check.LeakCheck(collect_secrets(ENVELOPE))
    try:
        check.add(value, lambda text: decoded if text == "decoded" * 2 else None)
        check.finish()
    except NotStorableError:
        return True
    return False


@given(data=st.data())
def test_large_values_are_searched_like_small_ones(data: st.DataObject) -> None:
    texts = st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join)
    value = [*data.draw(st.lists(texts, max_size=3)), "decoded" * 2]
    decoded = data.draw(texts).encode("utf-8") + data.draw(
        st.sampled_from([b"", gzip.compress(CANARY.encode()), b"x\x9c"])
    )
    expected = is_refused(value, decoded)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leak_check, "STEP", data.draw(st.sampled_from([50, 1000])))
        for module in (byte_patterns, skeleton, text_set):
            patch.setattr(module, "_LARGE", 0)
        assert is_refused(value, decoded) == expected
