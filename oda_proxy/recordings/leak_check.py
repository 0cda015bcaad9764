"""Check that what is stored of an exchange holds none of its secrets, however they are written.

The secrets are collected from the exchange itself: session and job ids, tokens, and the persons whom its tokens name.
They are found percent-encoded, split over FITS cards, in another case, as base64, and within a pickle.
"""

from __future__ import annotations

import binascii
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from oda_proxy.recordings.redaction import CLIENT_MEMBERS, JWT, NotStorableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from oda_proxy.query.query import Envelope


@dataclass(frozen=True, slots=True)
class Secrets:
    """Texts that must not be stored, by the reason for which an answer that holds one is refused."""

    by_reason: Mapping[str, frozenset[str]] = field(repr=False)


def collect_secrets(envelope: Envelope, *answers: Any) -> Secrets:
    """Collect what names the client of an exchange, or other clients: a job can run in the session of another.

    `answers` are the parts of the answer that are not products. Members are found at any depth.
    """
    named: dict[str, set[str]] = {"session_id": {envelope.session_id}, "job_id": {envelope.job_id}, "token": set()}
    if envelope.token is not None:
        named["token"].add(envelope.token.text)
    people = {text for part in answers for name, text in _named(part) if name in {"email", "user_email"}}
    for part in answers:
        for name, text in _named(part):
            if name in named:
                named[name].add(text)
            named["token"].update(JWT.findall(text))
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
        texts = [claims.get(name) for name in ("email", "sub", "name")]
    except (IndexError, ValueError, AttributeError, RecursionError):
        return set()
    return {claim for claim in texts if isinstance(claim, str)}


_LONG = 8
"""Letters and digits from which on a secret is found whatever separates them."""
_BASE64_FROM = 11
"""Characters from which on a text is also decoded as base64, in which a secret of eight takes as many."""

_STANDARD = str.maketrans("-_", "+/")
_DELETED = bytes(byte for byte in range(256) if not chr(byte).isascii() or not chr(byte).isalnum())
_NOT_BASE64 = bytes(byte for byte in _DELETED if byte not in b"+/")
_LOWER = bytes(range(256)).lower()


def check_no_secrets(value: Any, secrets: Secrets) -> None:
    """Raise NotStorableError where a JSON value holds a secret.

    Long secrets are searched among letters and digits alone, so that no folding, quoting or encoding hides them; short
    ones as whole words.
    """
    by_reason = secrets.by_reason
    long = {reason: [s for s in texts if len(_skeleton(s.encode())) >= _LONG] for reason, texts in by_reason.items()}
    short = {reason: [s for s in texts if s not in long[reason]] for reason, texts in by_reason.items()}
    if not any(long.values()) and not any(short.values()):
        return
    texts = list(_texts(value))
    for decoded in _decodings(texts):
        for reason, secret_texts in long.items():
            if any(_skeleton(secret.encode()) in decoded for secret in secret_texts):
                raise NotStorableError(reason)
    words = "\n".join(text for text in texts if len(text) < _PROSE)
    for reason, few in short.items():
        if any(re.search(rf"(?<![^\W_]){re.escape(secret)}(?![^\W_])", words) for secret in few):
            raise NotStorableError(reason)


_PROSE = 4096
"""Characters up to which a text is searched for short secrets: base64 holds them by chance."""


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


def _decodings(texts: Iterable[str]) -> Iterator[bytes]:
    """Yield the letters and digits of all texts together, as sent and percent-decoded, then of each text as base64."""
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
    """Decode the base64 characters of a text, ignoring all others."""
    data = text.translate(_STANDARD).encode("ascii", "ignore").translate(None, _NOT_BASE64)
    return binascii.a2b_base64(data[: len(data) - (len(data) % 4 == 1)] + b"==")


def _skeleton(text: bytes) -> bytes:
    return text.translate(_LOWER, _DELETED)
