"""What was asked is kept beside the answer, without who asked."""

from __future__ import annotations

import jwt
import pytest

from oda_proxy.query.query import Envelope, Token, split_query
from oda_proxy.recordings.recording import redact_query
from oda_proxy.recordings.redaction import NotStorableError

SESSION = "SESSIONCANARY000"
TOKEN = jwt.encode({"sub": "canary@example.org"}, "a key that is long enough for HS256, and made up", "HS256")
ASKER = Envelope("new", SESSION, "0123456789abcdef", Token(TOKEN))
ASKED = [("instrument", "isgri"), ("product_type", "isgri_image"), ("query_type", "Real"), ("RA", "83.0")]


def test_what_was_asked_is_kept_as_it_is() -> None:
    query, _ = split_query([*ASKED, ("scw_list", "1"), ("scw_list", "2")])

    assert redact_query(query, ASKER) == query


def test_what_a_client_says_of_itself_is_left_out() -> None:
    query, _ = split_query(
        [*ASKED, ("email", "canary@example.org"), ("note", "by canary@example.org"), ("work_dir", "/x")]
    )

    assert dict(redact_query(query, ASKER).parameters) == {"RA": ("83.0",), "note": ("by (removed)",)}


@pytest.mark.parametrize("words", [SESSION, f"http://x/?a={SESSION}", TOKEN[40:], "canary%2540example.org"])
def test_words_in_which_the_asker_can_be_read_are_not_kept(words: str) -> None:
    query, _ = split_query([*ASKED, ("note", words)])

    with pytest.raises(NotStorableError, match="names-a-"):
        redact_query(query, ASKER)
