"""The tail of a recording as a template, so that an answer from memory only fills in the values of its client.

A template is compiled from the tail that `recording.tail` writes for a client whose values are marks: whatever is
between the marks is the same for all clients that send the same fields.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import count
from json.encoder import encode_basestring_ascii as _encode
from typing import TYPE_CHECKING, NamedTuple

from oda_proxy.compat.generations import generation
from oda_proxy.query.query import Envelope
from oda_proxy.recordings.recording import tail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oda_proxy.recordings.recording import Recording

MAX_TEMPLATES = 4
"""Templates of one recording: clients of one release send the same fields."""

_SESSION_ID, _QUERY_STATUS, _TOKEN, _JOB_ID, _TIME, _ADDRESS, _OTHERS = range(7)
"""What fills a gap; the other fields of a client follow in the order in which it sent them."""
_OF_REQUEST = frozenset({_SESSION_ID, _TIME})
"""What differs between requests that differ only in their session."""


class _Gap(NamedTuple):
    """A gap: its place in the texts of a template, what fills it, and whether it is within a JSON text in a string."""

    place: int
    filling: int
    nested: bool


@dataclass(frozen=True, slots=True)
class _Template:
    """Texts, with an empty one at the place of each gap."""

    texts: tuple[str, ...]
    gaps: tuple[_Gap, ...]

    def fill(self, fillings: Sequence[str]) -> list[str]:
        """Return the texts with those in the gaps."""
        texts = list(self.texts)
        for place, filling, nested in self.gaps:
            texts[place] = _encode(fillings[filling])[1:-1] if nested else fillings[filling]
        return texts


class SessionTail:
    """The tail for requests that differ only in their session."""

    __slots__ = ("_gaps", "_texts")

    def __init__(self, texts: Sequence[str], gaps: Sequence[_Gap]) -> None:
        self._texts: list[str] = []
        self._gaps: list[tuple[int, int]] = []
        end = 0
        for place, filling, nested in gaps:
            if filling in _OF_REQUEST:
                self._texts += ("".join(texts[end:place]), "")
                self._gaps.append((len(self._texts) - 1, 2 if filling == _TIME else nested))
                end = place + 1
        self._texts.append("".join(texts[end:]))

    def fill(self, session_id: str, now: float) -> bytes:
        """Return the tail for a session, whose name has only letters, digits, `_` and `-`."""
        texts, fillings = self._texts.copy(), (f'"{session_id}"', f'\\"{session_id}\\"', repr(now))
        for place, filling in self._gaps:
            texts[place] = fillings[filling]
        return "".join(texts).encode("ascii")


class TailTemplate:
    """The tail of a recording, compiled for each set of fields that clients send."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._job_id = recording.job_id or recording.key[:16]
        self._compiled: dict[tuple[object, ...], _Template] = {}
        self.size = len(self._tail(Envelope(), ""))
        """Bytes of the tail, without the values of a client."""

    def fill(self, envelope: Envelope, *, now: float, address: str) -> bytes:
        """Return the tail that `splice` writes for a client, byte for byte; the arguments are those of `splice`."""
        template = self._template(envelope)
        return "".join(template.fill(self._fillings(envelope, now, address))).encode("ascii")

    def for_sessions(self, envelope: Envelope, address: str) -> SessionTail:
        """Return the tail for requests like that of a client, from other sessions."""
        template = self._template(envelope)
        return SessionTail(template.fill(self._fillings(envelope, 0.0, address)), template.gaps)

    def _template(self, envelope: Envelope) -> _Template:
        """Return the template for clients that send the same fields as this one."""
        token, job_id, others = envelope.token, envelope.job_id, envelope.others
        sent = (generation(envelope.client_version), envelope.is_verbose, token is None, job_id == "", *others)
        template = self._compiled.get(sent)
        if template is None:
            template = self._compile(envelope)
            while len(self._compiled) >= MAX_TEMPLATES:
                self._compiled.pop(next(iter(self._compiled)))
            self._compiled[sent] = template
        return template

    def _fillings(self, envelope: Envelope, now: float, address: str) -> list[str]:
        """Return what fills the gaps, in the order of their numbers."""
        token = envelope.token
        return [
            _encode(envelope.session_id),
            _encode(envelope.query_status),
            _encode(token.text) if token else "",
            _encode(envelope.job_id or self._job_id),
            repr(now),
            _encode(address)[1:-1],
            *map(_encode, envelope.others.values()),
        ]

    def _compile(self, envelope: Envelope) -> _Template:
        """Return the template for clients that send the same fields as this one."""
        plain = self._tail(envelope, "")
        mark = next(mark for n in count() if (mark := f"gap-{n}-") not in plain)
        texts: list[str] = []
        gaps: list[_Gap] = []
        marked, end = self._tail(envelope, mark), 0
        for gap in re.finditer(rf'(?P<quote>(?:\\?")?){mark}(?P<filling>\d+)\.(?P=quote)', marked):
            filling, quote = int(gap["filling"]), gap["quote"]
            is_bare = filling == _ADDRESS  # quotes around it, if any, are of the program that it is in
            inside = len(quote) if is_bare else 0
            texts += (marked[end : gap.start() + inside], "")
            gaps.append(_Gap(len(texts) - 1, filling, quote == r"\"" and not is_bare))
            end = gap.end() - inside
        return _Template((*texts, marked[end:]), tuple(gaps))

    def _tail(self, envelope: Envelope, mark: str) -> str:
        """Return the tail with marks instead of the values of a client, or with empty ones where the mark is empty."""
        marked = [f"{mark}{filling}." if mark else "" for filling in range(_OTHERS + len(envelope.others))]
        client = {
            "session_id": marked[_SESSION_ID],
            "query_status": marked[_QUERY_STATUS],
            "token": marked[_TOKEN] if envelope.token else None,
            **({"job_id": marked[_JOB_ID]} if envelope.job_id else {}),
            **dict(zip(envelope.others, marked[_OTHERS:], strict=True)),
        }
        return tail(
            self._recording,
            client,
            job_id=marked[_JOB_ID],
            version=envelope.client_version,
            is_verbose=envelope.is_verbose,
            now=marked[_TIME],
            address=marked[_ADDRESS],
        )
