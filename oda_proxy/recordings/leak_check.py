"""Check that what is stored of an exchange holds none of its secrets, however they are written.

The secrets are collected from the exchange itself: session and job ids, tokens, and the persons whom its tokens name.
They are found percent-encoded or escaped, split over members or FITS cards, in another case or without accents, as
base64 or hexadecimal digits, in a pickle, and in compressed files.
"""

from __future__ import annotations

import binascii
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from oda_proxy.codec import base64_steps
from oda_proxy.codec.json_steps import STEP
from oda_proxy.recordings import encoded_parts
from oda_proxy.recordings.byte_patterns import BytePattern, PatternScan
from oda_proxy.recordings.encoded_parts import AROUND, ENCODINGS, plain
from oda_proxy.recordings.redaction import CLIENT_MEMBERS, JWT, NotStorableError, letters
from oda_proxy.recordings.skeleton import skeleton_of
from oda_proxy.recordings.text_set import TextSet
from oda_proxy.recordings.unpacking import MAGIC, TooLargeError, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

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
            if kind := _KINDS.get(letters(name)):
                (people if kind == "email" else named[kind]).add(text)
            named["token"].update(JWT.findall(text))
    for part in products:
        for name, text in _named(part):
            kind = _KINDS.get(letters(name), "")
            if kind in named and len(skeleton_of(plain(text))) >= _LONG:
                named[kind].add(text)
    for token in [*named["token"]]:
        named["token"].update(token.split("."))
        people |= _claims(token)
    return Secrets(
        {
            "names-a-session": frozenset(named["session_id"]) - _NO_SECRETS,
            "names-a-job": frozenset(
                text for text in named["job_id"] - _NO_SECRETS if len(skeleton_of(text.encode())) >= _LONG
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
_NOT_BASE64 = bytes(
    byte for byte in range(256) if not chr(byte).isascii() or not (chr(byte).isalnum() or chr(byte) in "+/-_")
)
_STANDARD_BYTES = bytes.maketrans(b"-_", b"+/")


def check_no_secrets(value: Any, secrets: Secrets) -> None:
    """Raise NotStorableError where a JSON value holds a secret, as `LeakCheck`."""
    check = LeakCheck(secrets)
    check.add(value)
    check.finish()


class LeakCheck:
    """Searches JSON values for secrets, one after the other; they are also read together.

    Long secrets are searched among letters and digits alone, so that no folding, quoting or encoding hides them; short
    ones as whole words. Each method raises NotStorableError where it finds one.
    """

    def __init__(self, secrets: Secrets, is_repeated: Callable[[str], bool] = lambda _: False) -> None:
        """Take the secrets; long texts that are repeated are cached, and decoded only once."""
        self._long: list[tuple[str, bytes]] = []
        self._short: list[tuple[str, re.Pattern[str]]] = []
        for reason, texts in secrets.by_reason.items():
            for text in texts:
                if len(skeleton := skeleton_of(plain(text))) >= _LONG:
                    self._long += ((reason, skeleton), (reason, plain(text).hex().encode("ascii")))
                else:
                    self._short.append((reason, re.compile(rf"(?<![^\W_]){re.escape(text)}(?![^\W_])")))
        searched = [_CONTINUED, *(secret for _, secret in self._long)]
        self._all_long = TextSet(searched)
        self._overlap = max(map(len, searched)) - 1
        self._is_repeated = is_repeated
        self._searched: set[str] = set()
        self._end = b""
        self._skeleton_end = b""
        self._values: list[str] = []
        self._words: list[str] = []

    def add(self, value: Any, decoded: Callable[[str], bytes | None] = lambda _: None) -> None:
        """Search a value.

        `decoded` returns the bytes of a text that is known to be base64 from its first to its last character, as the
        text of a pickle is: nothing precedes it that would shift the base64.
        """
        texts = list(_texts(value))
        self._search_together(texts)
        self._values.extend(_values(value))
        if self._short:
            self._words.extend(text for text in texts if len(text) < _PROSE)
        for text in texts:
            if len(text) >= _BASE64_FROM and not self._is_searched(text):
                self._search_decoded(text, decoded(text))
                if self._is_cacheable(text):
                    self._searched.add(text)

    def finish(self) -> None:
        """Search what is split over members of all values."""
        self._search(encoded_parts.decoded(plain("".join(self._values))))
        words = "\n".join(self._words)
        for reason, pattern in self._short:
            if pattern.search(words):
                raise NotStorableError(reason)

    def _search_together(self, texts: Iterable[str]) -> None:
        """Search texts as sent, and what is percent-encoded or escaped in them, also across their ends."""
        small: list[str] = []
        for text in texts:
            if len(text) < STEP:
                small.append(text)
                continue
            self._search_next(plain("\n".join(small)))
            small.clear()
            if any(mark in text for mark in _ENCODED):
                self._search_next(plain(text))
                continue
            end = self._end
            self._search_next(plain(text[: 2 * AROUND]))
            tail = skeleton_of(plain(text[-2 * AROUND :]))
            if self._is_searched(text) and len(tail) >= self._overlap:
                self._skeleton_end = tail[-self._overlap :]
            elif self._search_letters(map(plain, _steps(text))) and "CONTINUE" in text:
                data = b"\n".join((end, plain(text)))
                self._search_encoded(data, PatternScan(data, ENCODINGS))
            self._end = plain(text[-2 * AROUND :])
        self._search_next(plain("\n".join(small)))

    def _search_next(self, data: bytes) -> None:
        """Search data that follow those before."""
        following = b"\n".join((self._end, data))
        scan = PatternScan(following, _IN_TEXT)
        _refuse_token(following, scan)
        self._search_letters(_steps(data))
        self._search_encoded(following, scan)
        self._end = following[-2 * AROUND :]

    def _search_letters(self, steps: Iterable[bytes]) -> bool:
        """Search data that follow those before for long secrets; return whether they may hold CONTINUE."""
        may_continue = False
        for some in steps:
            skeleton = self._skeleton_end + skeleton_of(some)
            may_continue |= self._search_skeleton(skeleton)
            self._skeleton_end = skeleton[-self._overlap :]
        return may_continue

    def _search_decoded(self, text: str, data: bytes | None) -> None:
        """Search what a text is as base64, and what is compressed in that."""
        for found in _from_base64(text) if data is None else (data,):
            scan = self._search_readings(found)
            try:
                for piece in unpacked(found, scan=scan):
                    self._search_readings(piece)
            except TooLargeError:
                raise NotStorableError("too-large") from None

    def _search_readings(self, data: bytes) -> PatternScan:
        """Search data, and what is encoded in them; return them, scanned for what is compressed."""
        scan = PatternScan(data, _IN_DATA)
        _refuse_token(data, scan)
        self._search_skeleton(_skeleton(data))
        self._search_encoded(data, scan)
        return scan

    def _search_encoded(self, data: bytes, scan: PatternScan) -> None:
        for decoded in encoded_parts.decoded_parts(data, scan):
            self._search(decoded)

    def _search(self, data: bytes) -> None:
        _refuse_token(data, PatternScan(data, _TOKENS))
        self._search_skeleton(_skeleton(data))

    def _search_skeleton(self, skeleton: bytes) -> bool:
        """Search letters and digits for long secrets; return whether they may hold CONTINUE."""
        if not self._all_long.is_in(skeleton):
            return False
        for reason, secret in self._long:
            if secret in skeleton:
                raise NotStorableError(reason)
        return True

    def _is_searched(self, text: str) -> bool:
        """Return whether a text was searched before."""
        return self._is_cacheable(text) and text in self._searched

    def _is_cacheable(self, text: str) -> bool:
        return len(text) < _PROSE or self._is_repeated(text)


_ENCODED = "%\\&."
"""Characters of which a text with encoded characters, or with a token, has at least one."""
_PROSE = 4096
"""Characters up to which a text is searched for short secrets: base64 holds them by chance."""
_SHIFTED = 1024 * 1024
"""Characters up to which a text may have anything but base64 at its begin: longer ones are files."""
_TOKENS = (BytePattern("token", (b"ey",), re.compile(JWT.pattern.encode())),)
_IN_TEXT = (*_TOKENS, *ENCODINGS)
_IN_DATA = (*_IN_TEXT, *MAGIC)
_CONTINUED = b"continue"
"""The letters of CONTINUE, which splits a text over FITS cards."""


def _refuse_token(data: bytes, scan: PatternScan) -> None:
    """Raise NotStorableError where data, which were scanned for tokens, hold one."""
    if b"." in data and any(scan.starts(_TOKENS)):
        raise NotStorableError("names-a-token")


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
        yield base64_steps.decode_characters(characters[begin:])


def _skeleton(data: bytes) -> bytes:
    return b"".join(map(skeleton_of, _steps(data)))


_Text = TypeVar("_Text", str, bytes)


def _steps(text: _Text) -> Iterator[_Text]:
    """Yield a text in parts that are short enough for other threads to run in between."""
    return (text[at : at + STEP] for at in range(0, len(text), STEP))
