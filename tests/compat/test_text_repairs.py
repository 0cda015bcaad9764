"""Repairs of texts find the letters `null` in large texts as in small ones."""

from __future__ import annotations

import pytest

from oda_proxy.compat import text_repairs
from oda_proxy.compat.text_repairs import interrupted_base64


@pytest.mark.parametrize("size", [64 * 1024, 128 * 1024 + 3, 200_001])
def test_null_is_interrupted_wherever_it_is_in_a_large_text(size: int) -> None:
    text = ("nul" * size)[:size]
    ends = range(text_repairs._LARGE - 5, text_repairs._LARGE + 5)
    for at in (*range(5), *ends, *range(size - 9, size - 3)):
        if at + 4 > size:
            continue
        changed = f"{text[:at]}null{text[at + 4 :]}"
        assert interrupted_base64(changed) == changed.replace("null", "nu ll")


@pytest.mark.parametrize("size", [0, 3, 64 * 1024, 64 * 1024 + 1, 64 * 1024 + 2, 128 * 1024 + 3])
def test_a_large_text_without_null_is_the_same_object(size: int) -> None:
    text = ("nulNULLnul " * size)[:size]

    assert interrupted_base64(text) is text


def test_a_large_text_with_other_characters_is_repaired_too() -> None:
    text = f"\u00e9{'A' * 100_000}null"

    assert interrupted_base64(text) == f"\u00e9{'A' * 100_000}nu ll"
