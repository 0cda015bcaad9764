"""Base64 is decoded and encoded in steps with the results of `binascii`."""

from __future__ import annotations

import base64
import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.codec import base64_steps


@pytest.fixture(autouse=True)
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make small values large ones."""
    monkeypatch.setattr(base64_steps, "_STEP", 8)
    monkeypatch.setattr(base64_steps, "_BYTES", 6)


@given(data=st.binary(max_size=40))
def test_bytes_are_encoded_and_decoded_alike(data: bytes) -> None:
    text = base64.b64encode(data).decode()

    assert base64_steps.encode(data) == text
    assert base64_steps.decode(text) == (data, True)


BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


@given(text=st.text("AB+/=\n -_\0\x7f\xe9\u2026", max_size=40) | st.text(BASE64 + "=", max_size=40))
def test_a_text_with_other_characters_is_decoded_alike_and_reported(text: str) -> None:
    try:
        expected = binascii.a2b_base64(text)
    except ValueError as error:
        with pytest.raises(type(error)):
            base64_steps.decode(text)
    else:
        data, is_plain = base64_steps.decode(text)
        assert data == expected
        assert is_plain or base64.b64encode(data).decode() != text
        assert not is_plain or binascii.a2b_base64(text, strict_mode=True) == data


def test_padding_before_the_end_of_a_step_is_not_plain() -> None:
    assert base64_steps.decode("QUFBQQ==QUFB") == (binascii.a2b_base64("QUFBQQ==QUFB"), False)


@given(characters=st.text(BASE64, max_size=40).map(str.encode))
def test_characters_are_decoded_without_their_padding(characters: bytes) -> None:
    end = len(characters) - (len(characters) % 4 == 1)

    assert base64_steps.decode_characters(characters) == binascii.a2b_base64(characters[:end] + b"==")


@pytest.mark.parametrize("size", [0, 1, 6, 12 * 1024 * 1024 + 1])
def test_large_data_are_encoded_and_decoded_alike(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    text = base64.b64encode(data).decode()

    assert base64_steps.encode(data) == text
    assert base64_steps.decode(text) == (data, True)
    assert base64_steps.decode_characters(text.rstrip("=").encode()) == data
    assert base64_steps.decode(f"\n{text}") == (data, False)
