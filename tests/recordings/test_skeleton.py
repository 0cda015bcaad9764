"""Letters and digits are picked out of large binary data as out of text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.recordings import skeleton
from oda_proxy.recordings.skeleton import skeleton_of


def expected(data: bytes) -> bytes:
    return bytes(byte for byte in data.lower() if chr(byte).isascii() and chr(byte).isalnum())


@given(st.binary())
def test_the_letters_and_digits_of_any_data_are_picked(data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(skeleton, "_LARGE", 0)
        assert skeleton_of(data) == expected(data)


@pytest.mark.parametrize("size", [0, 1, 16 * 1024 - 1, 16 * 1024, 70_001])
@pytest.mark.parametrize("separators", [0, 3, 62, 200])
def test_they_are_picked_whatever_separates_them(size: int, separators: int) -> None:
    random = np.random.default_rng(size)
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", np.uint8)
    others = np.setdiff1d(np.arange(256, dtype=np.uint8), letters)
    data = random.choice(np.concatenate([letters, random.choice(others, separators)]), size).tobytes()

    assert skeleton_of(data) == expected(data)


def test_every_byte_is_a_letter_a_digit_or_neither() -> None:
    data = bytes(range(256)) * 100

    assert skeleton_of(data) == expected(data)
