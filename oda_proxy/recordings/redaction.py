"""What of an answer names its asker, and how it is taken out.

Three lines of defence. What names the asker by a known name (a member of an object, a card of a FITS header) is left
out. What looks like a person or a place of theirs (e-mail addresses, tokens, scratch folders, call-back addresses) is
taken out of every text. And what is left must not show any secret of this very exchange, however it is written:
percent-encoded, split over cards, in another case, as base64, or within a pickle.
"""

from __future__ import annotations

import binascii
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from oda_proxy.query.query import ENVELOPE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from oda_proxy.query.query import Envelope

REMOVED = "(removed)"
"""What stands in a text in place of an address that was taken out."""

CLIENT_MEMBERS = ENVELOPE | {
    "call_back_url",
    "callback_url",
    "email",
    "scratch_dir",
    "time_original_request",
    "user_email",
    "work_dir",
}
"""Names of members that say who asks, or where their job runs, wherever they stand."""


class NotStorableError(Exception):
    """An answer must not be kept; the message is one short word that says why, as in `Cache-Status`."""


# -- secrets ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Secrets:
    """What must not be found in what is kept; each set under the word that refuses an answer."""

    by_word: Mapping[str, frozenset[str]] = field(repr=False)


def collect_secrets(envelope: Envelope, *answers: Any) -> Secrets:
    """Collect what an exchange says of its asker, and of others: the session of a job can be another person's.

    `answers` are the parts of the answer that are not products; members are found at any depth.
    """
    named: dict[str, set[str]] = {"session_id": {envelope.session_id}, "job_id": {envelope.job_id}, "token": set()}
    if envelope.token is not None:
        named["token"].add(envelope.token.text)
    people = {text for part in answers for name, text in _named(part) if name in {"email", "user_email"}}
    for part in answers:
        for name, text in _named(part):
            if name in named:
                named[name].add(text)
            named["token"].update(_JWT.findall(text))
    for token in [*named["token"]]:
        named["token"].update(token.split("."))
        people |= _claims(token)
    return Secrets(
        {
            "names-a-session": frozenset(named["session_id"]) - _NO_SECRETS,
            "names-a-job": frozenset(
                text for text in named["job_id"] - _NO_SECRETS if len(_skeleton(text.encode())) >= _LONG
            ),
            "names-a-token": frozenset(named["token"]) - _NO_SECRETS - {_COMMON_HEADER},
            "names-a-person": frozenset(people) - _NO_SECRETS,
        }
    )


_NO_SECRETS = frozenset({"", "new", "None", "\x00", "0" * 16})
"""What stands where there is no session, token or job."""

_COMMON_HEADER = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
"""How most tokens begin: it says which algorithm signed them, and nothing of a person."""


def _named(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text with the name of the member that holds it; numbers under the names of an asker, too."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _named(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner, name)
    elif isinstance(value, str) or (isinstance(value, int) and name in CLIENT_MEMBERS):
        yield name, str(value)


def _claims(token: str) -> set[str]:
    """Give what a token says of its owner, without believing it."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(binascii.a2b_base64(payload.translate(_STANDARD) + "=="))
        told = [claims.get(name) for name in ("email", "sub", "name")]
    except (IndexError, ValueError, AttributeError, RecursionError):
        return set()
    return {claim for claim in told if isinstance(claim, str)}


# -- taking out ------------------------------------------------------------------------------------


def redact_value(value: Any) -> Any:
    """Give a JSON value without what names an asker: the same object where there is nothing to take out."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, list):
        cleaned = [redact_value(inner) for inner in value]
        return value if all(map(_is, cleaned, value)) else cleaned
    if isinstance(value, dict):
        kept = {name: inner for name, inner in value.items() if bare_name(name) not in CLIENT_MEMBERS}
        kept = {redact_text(name): redact_value(inner) for name, inner in kept.items()}
        same = len(kept) == len(value) and all(name in kept and kept[name] is value[name] for name in value)
        return value if same else kept
    return value


def bare_name(name: str) -> str:
    """Give a name as we compare it: FITS knows no case, and writes long ones as HIERARCH cards."""
    return re.sub(r"^hierarch\s+", "", name.casefold()).strip()


_EMAIL = re.compile(r"[\w.%+-]+(?:@|%40)[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}")
_JWT = re.compile(r"eyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*")
_SCRATCH = re.compile(r"[^\s\"'<>\\,;]*scratch_(?:sid|dir)_[^\s\"'<>\\,;]*")
_CALL_BACK = re.compile(r"https?(?:://|%3A%2F%2F)[^\s\"'<>\\]*call_back[^\s\"'<>\\]*", re.IGNORECASE)
_URL = re.compile(r"(https?://[^\s\"'<>\\?]*)\?([^\s\"'<>\\]*)")
_ASKS = re.compile(r"(?:^|[?&]|%26|%3F)(?:session_id|job_id|token)(?:=|%3D)", re.IGNORECASE)


def redact_text(text: str) -> str:
    """Take out of a text what leads to a person or to the folders and call-backs of a job."""
    if "@" in text or "%40" in text:
        text = _EMAIL.sub(REMOVED, text)
    if "eyJ" in text and "." in text:
        text = _JWT.sub(REMOVED, text)
    if "scratch_" in text:
        text = _SCRATCH.sub(REMOVED, text)
    if "call_back" in text:
        text = _CALL_BACK.sub(REMOVED, text)
    if "?" in text:
        text = _URL.sub(lambda found: found[1] if _asks(f"?{found[2]}") else found[0], text)
    return text


def _asks(text: str) -> bool:
    return bool(_ASKS.search(text))


def _is(one: Any, other: Any) -> bool:
    return one is other


# -- proof -----------------------------------------------------------------------------------------

_LONG = 8
"""Letters and digits from which on a secret is recognised whatever stands between them."""
_BASE64_FROM = 11
"""Characters from which on a text is also read as base64: a secret of eight takes as many."""

_STANDARD = str.maketrans("-_", "+/")
_DELETED = bytes(byte for byte in range(256) if not chr(byte).isascii() or not chr(byte).isalnum())
_NOT_BASE64 = bytes(byte for byte in _DELETED if byte not in b"+/")
_LOWER = bytes(range(256)).lower()


def check_no_secrets(kept: Any, known: Secrets) -> None:
    """Raise NotKeptError where a secret can be read anywhere in `kept`, a JSON value.

    Long secrets are searched among letters and digits alone, so that no way of folding, quoting or encoding hides them;
    short ones as words.
    """
    sought = {word: [s for s in texts if len(_skeleton(s.encode())) >= _LONG] for word, texts in known.by_word.items()}
    short = {word: [s for s in texts if s not in sought[word]] for word, texts in known.by_word.items()}
    if not any(sought.values()) and not any(short.values()):
        return
    texts = list(_texts(kept))
    for seen in _readings(texts):
        for word, long in sought.items():
            if any(_skeleton(secret.encode()) in seen for secret in long):
                raise NotStorableError(word)
    words = "\n".join(text for text in texts if len(text) < _PROSE)
    for word, few in short.items():
        if any(re.search(rf"(?<![^\W_]){re.escape(secret)}(?![^\W_])", words) for secret in few):
            raise NotStorableError(word)


_PROSE = 4096
"""Characters up to which a text is searched for short secrets: in base64 they would stand by chance."""


def _texts(value: Any) -> Iterator[str]:
    """Yield every text and name, and the digits of every large number."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _texts(inner)
    elif isinstance(value, int) and abs(value) >= 10**_LONG:
        yield str(value)


def _readings(texts: Iterable[str]) -> Iterator[bytes]:
    """Yield what the texts say, letters and digits only: all together as they are and decoded, then as base64."""
    together = "\n".join(texts).encode("utf-8", "surrogatepass")
    yield _skeleton(together)
    yield _skeleton(_decoded(together.replace(b"CONTINUE", b"")))
    for text in dict.fromkeys(texts):
        if len(text) >= _BASE64_FROM:
            data = _from_base64(text)
            yield _skeleton(data)
            if b"%" in data and b"session_id" in data:
                yield _skeleton(_decoded(data))


def _decoded(text: bytes) -> bytes:
    """Undo percent-encoding, however often it was applied."""
    while b"%" in text and (shorter := unquote_to_bytes(text)) != text:
        text = shorter
    return text


def _from_base64(text: str) -> bytes:
    """Read a text as base64, whatever else stands in it."""
    data = text.translate(_STANDARD).encode("ascii", "ignore").translate(None, _NOT_BASE64)
    return binascii.a2b_base64(data[: len(data) - (len(data) % 4 == 1)] + b"==")


def _skeleton(text: bytes) -> bytes:
    return text.translate(_LOWER, _DELETED)
