"""The tail of a recording as a template, so that an answer from memory only fills in the values of its client.

A template is compiled from the tail that `recording.tail` writes for a client whose values are marks: whatever is
between the marks is the same for all clients that send the same fields.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from oda_proxy.compat.generations import generation
from oda_proxy.recordings.recording import client_values, tail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.query.query import Envelope
    from oda_proxy.recordings.recording import Recording

MAX_TEMPLATES = 4
"""Templates of one recording: clients of one release send the same fields."""

_encode = json.JSONEncoder().encode

_ADDRESS, _TIME, _JOB_ID = "address", "time", "job"
"""Names of gaps that are no field of a client: its address of the proxy, `time_request`, the job_id of its answer."""


class _Gap(NamedTuple):
    """A gap: its place in the texts of a template, what fills it, and whether it is within a JSON text in a string."""

    place: int
    name: str
    nested: bool


@dataclass(frozen=True, slots=True)
class _Template:
    """Texts, with an empty one at the place of each gap."""

    texts: tuple[str, ...]
    gaps: tuple[_Gap, ...]


class TailTemplate:
    """The tail of a recording, compiled for each set of fields that clients send."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._compiled: dict[tuple[object, ...], _Template] = {}

    def fill(self, envelope: Envelope, *, now: float, address: str) -> bytes:
        """Return the tail that `splice` writes for a client, byte for byte; the arguments are those of `splice`."""
        client, job_id = client_values(self._recording, envelope)
        form = (generation(envelope.client_version), envelope.is_verbose, envelope.token is None, *client)
        template = self._compiled.get(form)
        if template is None:
            template = self._compile(envelope, client)
            while len(self._compiled) >= MAX_TEMPLATES:
                self._compiled.pop(next(iter(self._compiled)), None)
            self._compiled[form] = template
        values = {name: _encode(value) for name, value in client.items()}
        values[_JOB_ID] = _encode(job_id)
        values[_TIME] = repr(now)
        values[_ADDRESS] = _encode(address)[1:-1]
        texts = list(template.texts)
        for place, name, nested in template.gaps:
            texts[place] = _encode(values[name])[1:-1] if nested else values[name]
        return "".join(texts).encode("ascii")

    def _compile(self, envelope: Envelope, client: Mapping[str, Any]) -> _Template:
        """Return the template for clients that send the same fields as this one."""
        plain = self._tail(envelope, client, "")
        mark = next(mark for n in count() if (mark := f"gap-{n}-") not in plain)
        texts: list[str] = []
        gaps: list[_Gap] = []
        end = 0
        marked = self._tail(envelope, client, mark)
        for gap in re.finditer(rf'(?P<quote>(?:\\?")?){mark}(?P<name>[\w-]+)\.(?P=quote)', marked):
            begin, name, nested = gap.start(), gap["name"], gap["quote"] == r"\""
            if name == _ADDRESS:
                begin, nested = gap.start() + len(gap["quote"]), False
            texts += (marked[end:begin], "")
            gaps.append(_Gap(len(texts) - 1, name, nested))
            end = gap.end() - (len(gap["quote"]) if name == _ADDRESS else 0)
        return _Template((*texts, marked[end:]), tuple(gaps))

    def _tail(self, envelope: Envelope, client: Mapping[str, Any], mark: str) -> str:
        """Return the tail with marks instead of the values of a client, or with empty values."""

        def marked(name: str) -> str:
            return f"{mark}{name}." if mark else ""

        return tail(
            self._recording,
            {name: None if value is None else marked(name) for name, value in client.items()},
            job_id=marked(_JOB_ID),
            version=envelope.client_version,
            is_verbose=envelope.is_verbose,
            now=marked(_TIME),
            address=marked(_ADDRESS),
        )
