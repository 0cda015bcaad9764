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


@given(text=st.text("AB+/=\n -", max_size=40))
def test_a_text_with_other_characters_is_decoded_alike_and_reported(text: str) -> None:
    try:
        expected = binascii.a2b_base64(text)
    except binascii.Error:
        with pytest.raises(binascii.Error):
            base64_steps.decode(text)
    else:
        data, is_plain = base64_steps.decode(text)
        assert data == expected
        assert is_plain or base64.b64encode(data).decode() != text
        assert not is_plain or set(text) <= set("AB+/=")


def test_padding_before_the_end_of_a_step_is_not_plain() -> None:
    assert base64_steps.decode("QUFBQQ==QUFB") == (binascii.a2b_base64("QUFBQQ==QUFB"), False)
