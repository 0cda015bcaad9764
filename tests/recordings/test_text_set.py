"""Several texts are searched at once, in large data with numpy."""

from __future__ import annotations

import numpy as np
import pytest

from oda_proxy.codec.json_steps import STEP
from oda_proxy.recordings.text_set import TextSet

TEXTS = (b"session", b"0123456789abcdef", b"eyjhbgcioijiuzi1niisinr5cci6ikpxvcj9" * 10)


def data_of(size: int) -> bytearray:
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz0123456789", np.uint8)
    return bytearray(np.random.default_rng(size).choice(letters, size).tobytes())


@pytest.mark.parametrize("text", TEXTS, ids=len)
@pytest.mark.parametrize("size", [400, 20_000, STEP + 1, 2 * STEP + 3])
def test_a_text_is_found_wherever_it_begins(text: bytes, size: int) -> None:
    data = data_of(size)
    places = {*range(9), *range(STEP - 20, STEP + 9), *range(size - len(text) - 9, size - len(text) + 1)}

    for at in sorted(at for at in places if 0 <= at <= size - len(text)):
        changed = bytes(data[:at] + text + data[at + len(text) :])
        assert TextSet(TEXTS).is_in(changed), at
        assert TextSet(TEXTS).is_in(changed[: at + len(text)]), at


@pytest.mark.parametrize("size", [0, 3, 400, 20_000, 2 * STEP + 3])
def test_a_text_with_one_other_letter_is_not_found(size: int) -> None:
    data = data_of(size)
    for text in TEXTS:
        for at in range(0, size - len(text), 1009):
            data[at : at + len(text)] = text[: at % len(text)] + b"_" + text[at % len(text) + 1 :]

    assert not TextSet(TEXTS).is_in(bytes(data))
    assert not TextSet(()).is_in(bytes(data))


def test_a_text_that_is_shorter_than_two_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter than 7 bytes"):
        TextSet([b"sessio"])
