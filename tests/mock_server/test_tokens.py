"""Tokens are read, or rejected for the right reason with the dispatcher's message."""

from __future__ import annotations

import base64
import hmac

import pytest

from mock_server.tokens import (
    ExpiredTokenError,
    InvalidTokenError,
    MalformedTokenError,
    Token,
    make_token,
    read_token,
)

KEY = "a key of a test"
NOW = 1000.0


def test_a_token_has_a_subject_and_roles() -> None:
    token = make_token({"sub": "user@example.org", "roles": "general, hpc", "exp": NOW + 1}, KEY)
    assert read_token(token, KEY, NOW) == Token("user@example.org", ("general", "hpc"))


def test_a_token_made_by_pyjwt_is_read() -> None:
    """Header, payload and signature as PyJWT 2.15 writes them."""
    header = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
    payload = "eyJzdWIiOiJ1c2VyQGV4YW1wbGUub3JnIiwicm9sZXMiOlsiYSIsImIiXX0"
    signature = "s7JilrCfD9OJlypgJ0ojb-G6F4Nlo9296UfyPdxg01I"
    assert read_token(f"{header}.{payload}.{signature}", "secretkey_test", NOW) == Token("user@example.org", ("a", "b"))


def test_the_email_replaces_a_missing_subject() -> None:
    assert read_token(make_token({"email": "user@example.org"}, KEY), KEY, NOW).subject == "user@example.org"


def test_a_token_without_subject_and_expiry_is_accepted() -> None:
    assert read_token(make_token({}, KEY), KEY, NOW) == Token("", ())


def test_a_token_with_a_past_expiry_has_expired() -> None:
    with pytest.raises(ExpiredTokenError, match="is expired, please try to logout"):
        read_token(make_token({"exp": NOW}, KEY), KEY, NOW)


def test_a_token_signed_with_another_key_is_not_valid() -> None:
    with pytest.raises(InvalidTokenError, match="is not valid, please try to logout"):
        read_token(make_token({"sub": "a"}, "another key"), KEY, NOW)


def test_a_token_with_algorithm_none_is_not_valid() -> None:
    unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0."
    with pytest.raises(InvalidTokenError):
        read_token(unsigned, KEY, NOW)


def test_a_token_that_names_another_algorithm_is_not_valid_whatever_its_signature() -> None:
    signed = "eyJhbGciOiJIUzUxMiJ9.eyJzdWIiOiJhIn0"
    signature = base64.urlsafe_b64encode(hmac.digest(KEY.encode(), signed.encode(), "sha256")).rstrip(b"=")
    with pytest.raises(InvalidTokenError):
        read_token(f"{signed}.{signature.decode()}", KEY, NOW)


def test_without_a_key_any_signature_is_accepted() -> None:
    assert read_token(make_token({"sub": "a"}, "another key"), None, NOW).subject == "a"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Not enough segments"),
        ("xyz", "Not enough segments"),
        ("a.b.c", "Invalid header padding"),
        ("e30.bm8.c", "Invalid payload string"),
        ("W10.e30.c", "Invalid header string: must be a json object"),
    ],
)
def test_an_invalid_token_gets_the_message_of_pyjwt(text: str, reason: str) -> None:
    with pytest.raises(MalformedTokenError, match=f"^{reason}"):
        read_token(text, KEY, NOW)
