"""An answer is repaired, screened, redacted and searched for secrets in one walk over its products."""

from __future__ import annotations

import base64
import json
import pickle  # noqa: TID251  # makes what dispatchers send
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from oda_proxy.codec import base64_steps
from oda_proxy.compat import answer_walk
from oda_proxy.compat.answer_repairs import repair_answer, repair_body, repaired
from oda_proxy.compat.parsed_answer import PRODUCT_LIST, parse_answer, parse_text
from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Envelope
from oda_proxy.recordings import leak_check
from oda_proxy.recordings.head import MemoryHeadWriter
from oda_proxy.recordings.recording import Redactor, redact
from oda_proxy.recordings.redaction import NotStorableError
from oda_proxy.store.recording_cache import Recorder
from tests.support.dispatcher_responses import ARRAY, JOB, SESSION, answer, json_bytes
from tests.support.unreadable_responses import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.recordings.recording import Recording

CLIENT = Envelope(session_id=SESSION, job_id=JOB)
KEY = Key("0123456789abcdef" * 4)
MATRIX = base64.b64encode(pickle.dumps(np.ones(5000), 2).replace(b"numpy.core", b"numpy._core")).decode()
"""An array whose module has to be renamed, as numpy 2 pickles it."""


def product(name: str, *arrays: str) -> dict[str, Any]:
    units = [{"name": "x", "header": {}, "binarys": array} for array in arrays]
    return {"name": name, "meta_data": "{}", "data_unit_list": units}


def with_products(*products: Any, **changes: Any) -> bytes:
    return json_bytes(answer(products={PRODUCT_LIST: list(products)}, **changes))


def walk(body: bytes) -> tuple[bytes, Recorder]:
    """Repair an answer; return its body, and what has seen it."""
    pieces: list[bytes] = []
    recorder = Recorder(Redactor(CLIENT, MemoryHeadWriter(), set()))
    result = repair_body(body, 200, CLIENT, pieces.append, recorder)
    return (b"".join(pieces) if result.is_changed else body), recorder


def finished(recorder: Recorder) -> Recording:
    return recorder.finish(key=KEY, stored_at=1.0)


@pytest.mark.parametrize("name", [name for name, broken in UNREADABLE.items() if broken.status == 200])
def test_the_walk_makes_the_recording_of_the_repaired_answer(name: str) -> None:
    body, recorder = walk(UNREADABLE[name].body)

    assert body == repaired(UNREADABLE[name].body, 200, CLIENT)
    try:
        expected = redact(body, CLIENT, key=KEY, stored_at=1.0)
    except NotStorableError as reason:
        with pytest.raises(NotStorableError, match=str(reason)):
            finished(recorder)
    else:
        assert finished(recorder) == expected


def test_an_answer_is_parsed_once_and_a_pickle_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    searched: list[str] = []
    parsed: list[bytes] = []

    def decode(text: str, decode: Any = base64_steps.decode) -> Any:
        decoded.append(text)
        return decode(text)

    def from_base64(text: str, from_base64: Any = leak_check._from_base64) -> Any:
        searched.append(text)
        return from_base64(text)

    def parse(body: bytes, parse: Any = parse_answer) -> Any:
        parsed.append(body)
        return parse(body)

    monkeypatch.setattr(base64_steps, "decode", decode)
    monkeypatch.setattr(leak_check, "_from_base64", from_base64)
    monkeypatch.setattr("oda_proxy.compat.answer_repairs.parse_answer", parse)

    body, recorder = walk(with_products(product("one", MATRIX, ARRAY), product("two", MATRIX)))
    finished(recorder)

    matrix = json.loads(body)["products"][PRODUCT_LIST][1]["data_unit_list"][0]["binarys"]
    assert b"numpy._core" in base64.b64decode(MATRIX)
    assert b"numpy._core" not in base64.b64decode(matrix)
    assert len(parsed) == 1
    assert decoded.count(MATRIX) == 1
    assert decoded.count(ARRAY) == 1
    assert set(decoded) == {MATRIX, ARRAY}
    assert {MATRIX, ARRAY, matrix}.isdisjoint(searched)


def test_a_product_that_needs_no_repair_keeps_its_bytes_beside_one_that_does() -> None:
    kept = json.dumps(product("\u00e9", ARRAY), indent=1)
    spaced = f"[ {kept} , {json.dumps(product('b', MATRIX))}\n]".encode()
    body = with_products(0).replace(b"[0]", spaced, 1)

    repaired_body, recorder = walk(body)

    assert b"[ " + kept.encode() + b" , {" in repaired_body
    assert b"[ " + kept.encode() + b" , {" in b"".join(finished(recorder).head.pieces())
    assert MATRIX.encode() not in repaired_body


@pytest.mark.parametrize(("arrays", "released"), [((MATRIX, MATRIX), 2), ((ARRAY, MATRIX), 1), ((ARRAY, ARRAY), 0)])
def test_the_text_is_released_once_it_is_written(arrays: tuple[str, ...], released: int) -> None:
    body = with_products(*(product("\u00e9", array) for array in arrays))
    ends: list[int] = []
    pieces: list[bytes] = []

    def text(begin: int, end: int) -> Iterator[bytes]:
        assert not ends or begin >= ends[-1]
        yield body[begin:end]

    repair_answer(parse_text(text, len(body), ends.append), 200, CLIENT, pieces.append)

    assert len(ends) == released
    assert all(body[:end].endswith(b"}") for end in ends)
    assert (b"".join(pieces) or body) == repaired(body, 200, CLIENT)


def test_a_product_is_not_held_while_the_next_one_is_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    body = with_products(*(product(f"{number}", MATRIX) for number in range(3)))
    held: list[list[int]] = []
    products: list[weakref.ref[Product]] = []

    class Product(dict[str, Any]):
        """A product that can be watched."""

    def repaired_product(value: Any, _: Any) -> Any:
        held.append([number for number, one in enumerate(products) if one()])
        changed = Product(value)
        products.append(weakref.ref(changed))
        return changed

    monkeypatch.setattr(answer_walk, "repaired_product", repaired_product)
    walk(body)

    assert held == [[], [], []]


def test_an_answer_that_is_not_stored_is_repaired_to_its_end() -> None:
    named = product("a", ARRAY)
    named["data_unit_list"][0]["header"] = {"COMMENT": f"for {SESSION}"}
    body = with_products(product("one", MATRIX), named, product("two", MATRIX))

    repaired_body, recorder = walk(body)

    assert len(json.loads(repaired_body)["products"][PRODUCT_LIST]) == 3
    assert MATRIX.encode() not in repaired_body
    with pytest.raises(NotStorableError, match="names-a-session"):
        finished(recorder)


def test_a_secret_that_is_split_over_two_products_is_found() -> None:
    halves = [
        {"meta_data": "{}", "name": "", "data_unit_list": [{"binarys": ARRAY, "header": {"TAIL": SESSION[:8]}}]},
        {"data_unit_list": [{"name": SESSION[8:], "binarys": ARRAY}], "name": "", "meta_data": "{}"},
    ]

    _, recorder = walk(with_products(*halves))

    with pytest.raises(NotStorableError, match="names-a-session"):
        finished(recorder)


@pytest.mark.parametrize(
    "encoded", [SESSION, SESSION.replace("S", "%53"), "".join(f"\\u{ord(c):04x}" for c in SESSION)]
)
def test_a_secret_after_a_long_pickle_is_found(encoded: str) -> None:
    named = product("a", MATRIX)
    named["data_unit_list"][0]["COMMENT"] = encoded

    _, recorder = walk(with_products(product("one", MATRIX), named))

    with pytest.raises(NotStorableError, match="names-a-session"):
        finished(recorder)


def test_a_secret_in_a_pickle_is_found() -> None:
    inside = base64.b64encode(pickle.dumps(np.array([f"for {SESSION}".encode()]), 3)).decode()

    _, recorder = walk(with_products(product("one", inside)))

    with pytest.raises(NotStorableError, match="names-a-session"):
        finished(recorder)
