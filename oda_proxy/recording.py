"""A completed answer without its asker: redact an answer to a Recording, splice a Recording to an answer.

An answer names its asker (session, job, token) in many places, all of them outside the products. A recording is
therefore

- a *head*: the members of `products` that belong to anyone, each exactly as the dispatcher wrote it, and
- a *tail*: the little that is said about the analysis, without the asker, made anew for each who asks.

What is kept is what is listed here; anything else of an answer is dropped, and an answer in whose head the asker can
still be seen is not kept at all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from oda_proxy.head import HeldHead
from oda_proxy.query import ENVELOPE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oda_proxy.head import Head
    from oda_proxy.key import Key
    from oda_proxy.query import Envelope, Query

FORMAT = 2
"""Version of what a recording holds."""

_PRODUCTS = frozenset(
    {
        "api_code",
        "astropy_table_product_ascii_list",
        "astropy_table_product_binary_list",
        "binary_data_product_list",
        "binary_image_product_list",
        "catalog",
        "gw_skymap_product",
        "gw_spectrogram_product",
        "gw_strain_product_list",
        "input_prod_list",
        "instrument_parameters",
        "instrumet_parameters",
        "numpy_data_product",
        "numpy_data_product_list",
        "prod_process_message",
        "text_product_list",
    }
)
"""Members of `products` kept as they are."""

_PARAMETERS = frozenset({"analysis_parameters", "analysis_paramters"})
"""The echo of the request, spelled as today and as in 2019."""

_EXIT_STATUS = ("status", "message", "error_message", "debug_message", "comment", "warning", "job_status")
"""Members of `exit_status` kept: the others tell of mail and messages to the asker."""


class NotKeptError(Exception):
    """An answer must not be kept; the message is one short word that says why, as in `Cache-Status`."""


@dataclass(frozen=True, slots=True)
class Recording:
    """The completed answer to one query, holding only what another person may see.

    `head` is JSON text: the members of `products`, without the braces. `stored_at` is in s since 1970 (UTC).
    """

    key: Key
    stored_at: float
    head: Head = field(repr=False)
    exit_status: Mapping[str, Any]
    parameters: Mapping[str, Mapping[str, Any]]
    """The echo without its asker, under the name it had; at most one."""
    echoed: tuple[str, ...]
    """Names of the envelope that the dispatcher echoes, in its order."""
    query: Query | None = None
    """What was asked, for people; None where that is not known."""
    cost: float = 0.0
    """How long the dispatcher took, in s from the first question to the whole answer; 0 where that is not known."""


@dataclass(frozen=True, slots=True)
class Spliced:
    """An answer for one asker: one JSON text in three parts, of which only the last was made anew."""

    begin: bytes
    head: Head
    end: bytes

    @property
    def size(self) -> int:
        """Bytes of the answer."""
        return len(self.begin) + self.head.size + len(self.end)

    def __iter__(self) -> Iterator[bytes]:
        """Give the answer piece by piece; blocks while the head is read. Raises StoreUnusableError."""
        yield self.begin
        yield from self.head.pieces()
        yield self.end


def redact(body: bytes, envelope: Envelope, *, key: Key, stored_at: float) -> Recording:
    """Make a recording of the `body` of an answer with status 200 to a request that awaits products.

    Raises NotKeptError for an answer that is not complete, not successful, or cannot be freed of its asker.
    """
    try:
        text = body.decode("utf-8")
        top = {name: (begin, end) for name, begin, end in _members(text, 0)}
        answer = {name: json.loads(text[slice(*span)]) for name, span in top.items() if name != "products"}
        products = list(_members(text, top["products"][0]))
    except (ValueError, KeyError, RecursionError):
        raise NotKeptError("not-an-answer") from None
    exit_status = answer.get("exit_status")
    if answer.get("query_status") != "done" or not isinstance(exit_status, dict) or exit_status.get("status") != 0:
        raise NotKeptError("not-done")
    if not products:
        raise NotKeptError("no-products")
    parameters = {name: json.loads(text[begin:end]) for name, begin, end in products if name in _PARAMETERS}
    if not all(isinstance(echo, dict) for echo in parameters.values()):
        raise NotKeptError("not-an-answer")
    recording = Recording(
        key=key,
        stored_at=stored_at,
        head=HeldHead(head := _head(text, products)),
        exit_status={name: exit_status[name] for name in _EXIT_STATUS if name in exit_status},
        parameters={name: {k: v for k, v in echo.items() if k not in ENVELOPE} for name, echo in parameters.items()},
        echoed=tuple(name for echo in parameters.values() for name in echo if name in ENVELOPE),
    )
    _refuse_traces(recording, head, {*_sessions(answer, products, text), envelope.session_id} - {""})
    return recording


def splice(recording: Recording, envelope: Envelope, *, now: float) -> Spliced:
    """Give a recording back as an answer to this asker, without reading its head.

    `now` is in s since 1970 (UTC), as the dispatcher's `time_request`.
    """
    session_id, job_id = envelope.session_id, envelope.job_id or recording.key[:16]
    asker: dict[str, Any] = {
        "session_id": session_id,
        "query_status": envelope.query_status,
        "token": None,
        **({"job_id": envelope.job_id} if envelope.job_id else {}),
        **envelope.others,
    }
    products = {
        **{
            name: {**echo, **{known: asker[known] for known in recording.echoed if known in asker}}
            for name, echo in recording.parameters.items()
        },
        "session_id": session_id,
        "job_id": job_id,
    }
    rest = {
        "exit_status": recording.exit_status,
        "job_monitor": {"job_id": job_id, "session_id": session_id, "status": "done"},
        "job_status": "done",
        "session_id": session_id,
        "time_request": now,
    }
    separator = "," if recording.head.size else ""
    tail = f"{separator}{_compact(products)[1:-1]}}},{_compact(rest)[1:]}\n"
    return Spliced(b'{"query_status":"done","products":{', recording.head, tail.encode("utf-8"))


def _head(text: str, products: list[tuple[str, int, int]]) -> bytes:
    """Put the members of `products` that are kept together as they were written."""
    return ",".join(f"{json.dumps(n)}:{text[b:e]}" for n, b, e in products if n in _PRODUCTS).encode("utf-8")


def _compact(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


_DECODER = json.JSONDecoder()
_SPACE = " \t\n\r"


def _members(text: str, at: int) -> Iterator[tuple[str, int, int]]:
    """Name the members of the JSON object that begins at `at`, each with the place of its value.

    Raises ValueError where there is no object, or where a name comes twice: clients would not agree on which counts.
    """
    seen: set[str] = set()
    at = _expect(text, at, "{")
    if text[at] == "}":
        return
    while True:
        name, at = _DECODER.raw_decode(text, at)
        if not isinstance(name, str) or name in seen:
            raise ValueError(name)
        seen.add(name)
        begin = _expect(text, at, ":")
        _, end = _DECODER.raw_decode(text, begin)
        yield name, begin, end
        at = _after_space(text, end)
        if text[at : at + 1] == "}":
            return
        at = _expect(text, at, ",")


def _expect(text: str, at: int, character: str) -> int:
    """Give the place of what follows `character`, which must come next; raises ValueError where it does not."""
    at = _after_space(text, at)
    if text[at : at + 1] != character:
        raise ValueError(f"no {character} at {at}")
    at = _after_space(text, at + 1)
    if at == len(text):
        raise ValueError("the text ends too early")
    return at


def _after_space(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _SPACE:
        at += 1
    return at


def _sessions(answer: Mapping[str, Any], products: list[tuple[str, int, int]], text: str) -> set[str]:
    """Collect the sessions an answer names: that of a job can be another person's (protocol: aliased jobs)."""
    monitor = answer.get("job_monitor")
    named = [answer.get("session_id"), monitor.get("session_id") if isinstance(monitor, dict) else None]
    named += [json.loads(text[begin:end]) for name, begin, end in products if name == "session_id"]
    return {session for session in named if isinstance(session, str)}


def _refuse_traces(recording: Recording, head: bytes, sessions: set[str]) -> None:
    """Raise NotKeptError where a session can still be read anywhere in a recording."""
    tail = _compact({**recording.exit_status, "parameters": recording.parameters})
    for session in sessions:
        if session.encode("utf-8") in head or session in tail:
            raise NotKeptError("names-a-session")
