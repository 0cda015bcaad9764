"""Check that what is stored of an exchange holds none of its secrets, however they are written.

The secrets are collected from the exchange itself: session and job ids, tokens, and the persons whom its tokens name.
They are found percent-encoded or escaped, split over members or FITS cards, in another case or without accents, as
base64, in a pickle, and in compressed files.
"""

from __future__ import annotations

import binascii
import heapq
import json
import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote_to_bytes

from oda_proxy.codec.json_steps import STEP
from oda_proxy.recordings.redaction import CLIENT_MEMBERS, JWT, NotStorableError
from oda_proxy.recordings.unpacking import TooLargeError, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from oda_proxy.query.query import Envelope


@dataclass(frozen=True, slots=True)
class Secrets:
    """Texts that must not be stored, by the reason for which an answer that holds one is refused."""

    by_reason: Mapping[str, frozenset[str]] = field(repr=False)


def collect_secrets(envelope: Envelope, *answers: Any, products: Iterable[Any] = ()) -> Secrets:
    """Collect what names the client of an exchange, or other clients: a job can run in the session of another.

    `answers` are the parts of the answer that are not products. Members are found at any depth. Of `products` only long
    ids and tokens are collected: their other members may be anything.
    """
    named: dict[str, set[str]] = {"session_id": {envelope.session_id}, "job_id": {envelope.job_id}, "token": set()}
    if envelope.token is not None:
        named["token"].add(envelope.token.text)
    people: set[str] = set()
    for part in answers:
        for name, text in _named(part):
            if kind := _KINDS.get(re.sub("[^a-z]", "", name.casefold())):
                (people if kind == "email" else named[kind]).add(text)
            named["token"].update(JWT.findall(text))
    for part in products:
        for name, text in _named(part):
            kind = _KINDS.get(re.sub("[^a-z]", "", name.casefold()), "")
            if kind in named and len(_skeleton(_plain(text))) >= _LONG:
                named[kind].add(text)
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


_KINDS = {
    "sessionid": "session_id",
    "jobid": "job_id",
    **dict.fromkeys(("token", "accesstoken", "authtoken", "bearertoken", "idtoken", "refreshtoken"), "token"),
    **dict.fromkeys(("email", "useremail", "emailaddress", "useremailaddress"), "email"),
}
"""What the members of these names are, by the letters of the name."""

_NO_SECRETS = frozenset({"", "new", "None", "\x00", "0" * 16})
"""Values that mean that there is no session, token or job."""

_COMMON_HEADER = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
"""The header of most tokens: it names an algorithm, not a person."""


def _named(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text with the name of the member that holds it, and the numbers of client members."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _named(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner, name)
    elif isinstance(value, str) or (isinstance(value, int) and name in CLIENT_MEMBERS):
        yield name, str(value)


def _claims(token: str) -> set[str]:
    """Return the texts in a token that name a person; its signature is not verified."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(binascii.a2b_base64(payload.translate(_STANDARD) + "=="))
        texts = [claims.get(name) for name in ("email", "sub", "name", "preferred_username")]
    except (IndexError, ValueError, AttributeError, RecursionError):
        return set()
    return {claim for claim in texts if isinstance(claim, str)}


_LONG = 8
"""Letters and digits from which on a secret is found whatever separates them."""
_BASE64_FROM = 11
"""Characters from which on a text is also decoded as base64, in which a secret of eight takes as many."""

_STANDARD = str.maketrans("-_", "+/")
_DELETED = bytes(byte for byte in range(256) if not chr(byte).isascii() or not chr(byte).isalnum())
_NOT_BASE64 = bytes(byte for byte in _DELETED if byte not in b"+/-_")
_STANDARD_BYTES = bytes.maketrans(b"-_", b"+/")
_LOWER = bytes(range(256)).lower()


def check_no_secrets(value: Any, secrets: Secrets) -> None:
    """Raise NotStorableError where a JSON value holds a secret.

    Long secrets are searched among letters and digits alone, so that no folding, quoting or encoding hides them; short
    ones as whole words.
    """
    by_reason = secrets.by_reason
    long = {reason: [s for s in texts if len(_skeleton(_plain(s))) >= _LONG] for reason, texts in by_reason.items()}
    short = {reason: [s for s in texts if s not in long[reason]] for reason, texts in by_reason.items()}
    sought = {reason: [_skeleton(_plain(text)) for text in texts] for reason, texts in long.items()}
    texts = list(_texts(value))
    for data in _decodings(value, texts):
        if _has_token(data):
            raise NotStorableError("names-a-token")
        skeleton = _skeleton(data)
        for reason, secret_texts in sought.items():
            if any(secret in skeleton for secret in secret_texts):
                raise NotStorableError(reason)
    words = "\n".join(text for text in texts if len(text) < _PROSE)
    for reason, few in short.items():
        if any(re.search(rf"(?<![^\W_]){re.escape(secret)}(?![^\W_])", words) for secret in few):
            raise NotStorableError(reason)


_PROSE = 4096
"""Characters up to which a text is searched for short secrets: base64 holds them by chance."""
_SHIFTED = 1024 * 1024
"""Characters up to which a text may have anything but base64 at its begin: longer ones are files."""
_JWT = re.compile(JWT.pattern.encode())
_JWT_BEGIN = b"eyJ"


def _has_token(data: bytes) -> bool:
    if b"." not in data:
        return False
    at = data.find(_JWT_BEGIN)
    while at >= 0:
        if _JWT.match(data, at):
            return True
        at = data.find(_JWT_BEGIN, at + 1)
    return False


def _texts(value: Any) -> Iterator[str]:
    """Yield every text and member name, and the digits of every large number."""
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


def _values(value: Any) -> Iterator[str]:
    """Yield every short text that is not a name."""
    if isinstance(value, str):
        if len(value) < _PROSE:
            yield value
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _values(inner)


def _decodings(value: Any, texts: Iterable[str]) -> Iterator[bytes]:
    """Yield a JSON value as it may be read: its `texts` together, as sent and decoded, then each as base64."""
    yield from _readings(_plain("\n".join(texts)))
    yield _decoded(_plain("".join(_values(value))))  # split over members
    for text in dict.fromkeys(texts):
        if len(text) >= _BASE64_FROM:
            for data in _from_base64(text):
                yield from _readings(data)
                try:
                    for piece in unpacked(data):
                        yield from _readings(piece)
                except TooLargeError:
                    raise NotStorableError("too-large") from None


def _readings(data: bytes) -> Iterator[bytes]:
    """Yield data as they are and, around everything that may be encoded text, decoded."""
    yield data
    begin, end = 0, -1
    patterns = [pattern for begin, pattern in _ENCODINGS if begin in data]
    for at in heapq.merge(*(_starts(pattern, data) for pattern in patterns)):
        if end >= 0 and at - _AROUND > end:
            yield _decoded(data[begin:end].replace(b"CONTINUE", b""))
            end = -1
        if end < 0:
            begin = max(at - _AROUND, 0)
        end = at + _AROUND
    if end >= 0:
        yield _decoded(data[begin:end].replace(b"CONTINUE", b""))


def _starts(pattern: re.Pattern[bytes], data: bytes) -> Iterator[int]:
    """Yield where a pattern begins in large data, which is searched in steps."""
    for begin in range(0, len(data), STEP):
        for found in pattern.finditer(data, begin, begin + STEP + _LONGEST_ENCODING):
            if found.start() < begin + STEP:
                yield found.start()


_LONGEST_ENCODING = 16
"""Bytes that no match of `_ENCODINGS` exceeds."""
_ENCODINGS = (
    (b"C", re.compile(rb"CONTINUE")),
    (b"%", re.compile(rb"%[0-9A-Fa-f]{2}")),
    (b"\\", re.compile(rb"\\u[0-9A-Fa-f]{4}")),
    (b"\\", re.compile(rb"\\x[0-9A-Fa-f]{2}")),
    (b"&", re.compile(rb"&#\w{1,7};")),
)
"""Encoded characters, each with the byte with which it begins."""
_AROUND = 4096
"""Bytes before and after an encoded character that are decoded with it; tokens are shorter."""
_ESCAPE = re.compile(rb"\\+(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2}))|&#(?:(\d{1,7})|[xX]([0-9A-Fa-f]{1,6}));")


def _decoded(text: bytes) -> bytes:
    """Undo percent-encoding, escapes of JSON and Python, and entities of HTML, however often they were applied."""
    while (shorter := _without_escapes(unquote_to_bytes(text))) != text:
        text = shorter
    return text


def _without_escapes(text: bytes) -> bytes:
    return _ESCAPE.sub(_character, text) if b"\\" in text or b"&#" in text else text


def _character(escape: re.Match[bytes]) -> bytes:
    json_escape, python_escape, decimal, hexadecimal = escape.groups()
    code = int(decimal) if decimal else int(json_escape or python_escape or hexadecimal, 16)
    return _plain(chr(code)) if code < _END_OF_UNICODE else b""


_END_OF_UNICODE = 0x110000


def _from_base64(text: str) -> Iterator[bytes]:
    """Decode the base64 characters of a text, ignoring all others: also from the second to the fourth in short texts.

    What precedes base64 in a text shifts it: words are base64 characters, too.
    """
    characters = b"".join(
        some.encode("ascii", "ignore").translate(_STANDARD_BYTES, _NOT_BASE64) for some in _steps(text)
    )
    comma = text.find(",", 0, _PROSE) if text.startswith("data:") else -1
    if comma >= 0:  # RFC 2397
        yield from _from_base64(text[comma + 1 :])
    for begin in range(4 if len(text) <= _SHIFTED else 1):
        data = characters[begin:]
        end = len(data) - (len(data) % 4 == 1)
        pieces = (data[at : min(at + 4 * STEP, end)] for at in range(0, end, 4 * STEP))
        yield b"".join(binascii.a2b_base64(piece + b"==") for piece in pieces)


def _plain(text: str) -> bytes:
    """Return a text without the accents of its letters."""
    return (text if text.isascii() else unicodedata.normalize("NFKD", text)).encode("utf-8", "surrogatepass")


def _skeleton(text: bytes) -> bytes:
    return b"".join(some.translate(_LOWER, _DELETED) for some in _steps(text))


_Text = TypeVar("_Text", str, bytes)


def _steps(text: _Text) -> Iterator[_Text]:
    """Yield a text in parts that are short enough for other threads to run in between."""
    return (text[at : at + STEP] for at in range(0, len(text), STEP))
