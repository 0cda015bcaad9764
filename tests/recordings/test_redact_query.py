"""The query is stored beside the answer without what names the client."""

from __future__ import annotations

import jwt
import pytest

from oda_proxy.query.query import Envelope, Token, split_query
from oda_proxy.recordings.recording import redact_query
from oda_proxy.recordings.redaction import NotStorableError

SESSION = "SESSIONCANARY000"
TOKEN = jwt.encode({"sub": "canary@example.org"}, "a key that is long enough for HS256, and made up", "HS256")
CLIENT = Envelope("new", SESSION, "0123456789abcdef", Token(TOKEN))
FIELDS = [("instrument", "isgri"), ("product_type", "isgri_image"), ("query_type", "Real"), ("RA", "83.0")]


def test_a_query_without_secrets_is_stored_unchanged() -> None:
    query, _ = split_query([*FIELDS, ("scw_list", "1"), ("scw_list", "2")])

    assert redact_query(query, CLIENT) == query


def test_what_a_client_says_of_itself_is_left_out() -> None:
    query, _ = split_query(
        [*FIELDS, ("email", "canary@example.org"), ("note", "by canary@example.org"), ("work_dir", "/x")]
    )

    assert dict(redact_query(query, CLIENT).parameters) == {"RA": ("83.0",), "note": ("by (removed)",)}


ENCODED = "".join(f"%{ord(character):02x}" for character in "canary@example.org")


@pytest.mark.parametrize("words", [SESSION, f"http://x/?a={SESSION}", TOKEN[40:], ENCODED])
def test_a_query_that_names_its_client_is_not_stored(words: str) -> None:
    query, _ = split_query([*FIELDS, ("note", words)])

    with pytest.raises(NotStorableError, match="names-a-"):
        redact_query(query, CLIENT)
