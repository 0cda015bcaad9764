"""The pickles of an answer are decoded once, and found by their texts."""

from __future__ import annotations

import base64
import pickle  # noqa: TID251  # makes what dispatchers send
from typing import Any

import numpy as np
import pytest

from oda_proxy.codec import base64_steps
from oda_proxy.codec.shared_texts import text_key
from oda_proxy.compat.pickles import Pickles


def pickled(*changed: int) -> str:
    """Return an array as numpy 2 pickles it, with ones at some of its places."""
    array = np.zeros(5000)
    array[list(changed)] = 1
    return base64.b64encode(pickle.dumps(array, 2).replace(b"numpy.core", b"numpy._core")).decode()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the texts that are decoded from now on."""
    texts: list[str] = []

    def decode(text: str, decode: Any = base64_steps.decode) -> Any:
        texts.append(text)
        return decode(text)

    monkeypatch.setattr(base64_steps, "decode", decode)
    return texts


def test_pickles_that_differ_in_few_characters_are_told_apart() -> None:
    texts = [pickled(at) for at in range(1000, 1010)]
    pickles = Pickles(frozenset(map(text_key, texts)))

    found = [pickles.find(text) for text in texts]

    assert [base64.b64decode(one.text) for one in found] == [
        base64.b64decode(text).replace(b"numpy._core", b"numpy.core") for text in texts
    ]
    for text in texts:
        renamed = pickles.find(text)
        assert pickles.decoded(renamed.text) == base64.b64decode(renamed.text)


def test_a_repeated_pickle_is_decoded_once_for_all_products(decoded: list[str]) -> None:
    text = pickled(7)
    pickles = Pickles(frozenset([text_key(text)]))

    for _ in range(3):
        assert "numpy.core.multiarray._reconstruct" in (pickles.find(pickles.find(text).text).names or ())
        pickles.end_product()

    assert decoded == [text]


def test_any_other_is_decoded_once_for_each_product_and_released(decoded: list[str]) -> None:
    text = pickled(7)
    pickles = Pickles()

    for _ in range(3):
        renamed = pickles.find(text).text
        assert pickles.find(renamed).text is renamed
        assert pickles.decoded(renamed) == base64.b64decode(renamed)
        pickles.end_product()
        assert pickles.decoded(renamed) is None

    assert decoded == [text] * 3
