"""A completed answer without its asker: redact an answer to a Recording, splice a Recording to an answer.

An answer names its asker (session, job, token) in many places, since 2020 all of them outside the products. A recording
is therefore

- a *head*: the members of `products` that belong to anyone, each as the dispatcher wrote it, and
- a *tail*: the little that is said about the analysis, without the asker, made anew for each who asks.

What is kept is what is listed here; anything else of an answer is dropped, and an answer in which the asker can still
be seen is not kept at all (`redaction`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from oda_proxy.codec.json_spans import JsonMember, compact, json_members
from oda_proxy.compat.generations import VERSION_DEPENDENT, adapted
from oda_proxy.query.query import CLIENT_DEFAULTS, ENVELOPE
from oda_proxy.recordings import api_code, fits_cards
from oda_proxy.recordings.head import MemoryHead
from oda_proxy.recordings.redaction import NotStorableError, check_no_secrets, collect_secrets, redact_value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from oda_proxy.query.cache_key import Key
    from oda_proxy.query.query import Envelope, Query
    from oda_proxy.recordings.fits_cards import Gap
    from oda_proxy.recordings.head import Head

FORMAT = 2
"""Version of what a recording holds."""

_PRODUCTS = frozenset(
    {
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


MAX_SMALL = 1024 * 1024
"""Bytes up to which a member that clients want in different forms stands in the tail; the largest known has some kB."""


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
    private: bool = False
    """Whether it was asked for with a token: what is for an audience is not for a folder of fixtures to publish."""
    cost: float = 0.0
    """How long the dispatcher took, in s from the first question to the whole answer; 0 where that is not known."""
    timeline: tuple[tuple[str, float], ...] = ()
    """The states that the job went through, each with its time in s after the first question; empty if not known."""
    client_members: Mapping[str, Any] = field(default_factory=dict)
    """Members of `products` whose form depends on the asker: `api_code`, and those of `compat.generations.FORMED`."""
    gaps: tuple[Gap, ...] = ()
    """Where in the head cards of the asker stand, in order."""

    @property
    def echo(self) -> Mapping[str, Any]:
        """What the dispatcher said it used, less the asker; empty where it said nothing."""
        return next(iter(self.parameters.values()), {})


@dataclass(frozen=True, slots=True)
class SplicedAnswer:
    """An answer for one asker: one JSON text in three parts, of which only the last was made anew.

    `inserted` are the texts that stand in the head for this asker, each with its offset, in order.
    """

    begin: bytes
    head: Head
    end: bytes
    inserted: tuple[tuple[int, bytes], ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the answer."""
        return len(self.begin) + self.head.size + sum(len(text) for _, text in self.inserted) + len(self.end)

    def __iter__(self) -> Iterator[bytes]:
        """Give the answer piece by piece; blocks while the head is read. Raises StoreUnusableError."""
        yield self.begin
        yield from fits_cards.interleave(self.head.pieces(), self.inserted)
        yield self.end


def redact(
    body: bytes, envelope: Envelope, *, key: Key, stored_at: float, asked: Collection[str] = frozenset()
) -> Recording:
    """Make a recording of the `body` of an answer with status 200 to a request that awaits products.

    `asked` are the names of the query's parameters: what is said of them is for all who ask it. Raises NotKeptError for
    an answer that is not complete, not successful, or cannot be freed of its asker.
    """
    try:
        text = body.decode("utf-8")
        top = {member.name: member for member in json_members(text)}
        products = list(json_members(text, top.pop("products").begin))
    except (ValueError, KeyError, RecursionError):
        raise NotStorableError("not-an-answer") from None
    answer = {name: member.value for name, member in top.items()}
    exit_status = answer.get("exit_status")
    if answer.get("query_status") != "done" or not isinstance(exit_status, dict) or exit_status.get("status") != 0:
        raise NotStorableError("not-done")
    if not products:
        raise NotStorableError("no-products")
    echoes = {member.name: member.value for member in products if member.name in _PARAMETERS}
    if not all(isinstance(echo, dict) for echo in echoes.values()):
        raise NotStorableError("not-an-answer")
    taken: list[fits_cards.Cards] = []
    large = {
        m.name: redact_value(fits_cards.mark_cards(m.value, taken))
        for m in products
        if m.name in _PRODUCTS and not _is_small(m)
    }
    head, gaps = fits_cards.extract_cards(_head(text, products, large), taken)
    recording = Recording(
        key=key,
        stored_at=stored_at,
        head=MemoryHead(head),
        exit_status=_anyones_status(exit_status, CLIENT_DEFAULTS.keys() - asked),
        parameters={
            name: redact_value({k: v for k, v in echo.items() if k not in ENVELOPE}) for name, echo in echoes.items()
        },
        echoed=tuple(name for echo in echoes.values() for name in echo if name in ENVELOPE),
        private=envelope.token is not None,
        client_members={m.name: _anyones(m) for m in products if _is_small(m)},
        gaps=gaps,
    )
    said = {m.name: m.value for m in products if m.name not in _PRODUCTS}
    kept = [large, taken, recording.exit_status, recording.parameters, recording.client_members]
    check_no_secrets(kept, collect_secrets(envelope, answer, said))
    return recording


_UNUSED = re.compile(r"Please note that arguments? (?P<names>[^\n]+?) (?:is|are) not used")


def _anyones_status(exit_status: Mapping[str, Any], of_clients: Collection[str]) -> Mapping[str, Any]:
    """Give what an answer says of its end, without what is about the asker's client.

    Dispatchers remark on arguments that they do not know, and clients up to 1.1.0 always send two of them.
    """
    kept: dict[str, Any] = redact_value({name: exit_status[name] for name in _EXIT_STATUS if name in exit_status})
    if isinstance(comment := kept.get("comment"), str):
        kept["comment"] = _UNUSED.sub(lambda remark: _unused_by_all(remark, of_clients), comment)
    return kept


def _unused_by_all(remark: re.Match[str], of_clients: Collection[str]) -> str:
    names = remark["names"].split(", ")
    others = [name for name in names if name not in of_clients]
    if others == names:
        return remark[0]
    many = len(others) > 1
    words = f"Please note that argument{'s' * many} {', '.join(others)} {'are' if many else 'is'} not used"
    return words if others else ""


def redact_query(query: Query, envelope: Envelope) -> Query:
    """Give what was asked as it may be kept beside the answer, without what a client says of itself among the words.

    Raises NotKeptError where the asker can be read in it nevertheless.
    """
    words = redact_value({name: list(values) for name, values in query.parameters})
    check_no_secrets([query.instrument, query.product_type, query.query_type, words], collect_secrets(envelope))
    return replace(query, parameters=tuple((name, tuple(values)) for name, values in words.items()))


def splice(recording: Recording, envelope: Envelope, *, now: float, address: str) -> SplicedAnswer:
    """Give a recording back as an answer to this asker, without reading its head.

    `now` is in s since 1970 (UTC), as the dispatcher's `time_request`; `address` is where the asker reaches us.
    """
    session_id, job_id = envelope.session_id, envelope.job_id or recording.key[:16]
    client: dict[str, Any] = {
        "session_id": session_id,
        "query_status": envelope.query_status,
        "token": envelope.token.text if envelope.token else None,
        **({"job_id": envelope.job_id} if envelope.job_id else {}),
        **envelope.others,
    }
    products = {
        **{
            name: api_code.fill_gaps(value, client, address)
            if name == _API_CODE
            else adapted(name, value, envelope.others.get("oda_api_version"))
            for name, value in recording.client_members.items()
        },
        **{
            name: {**echo, **{known: client[known] for known in recording.echoed if known in client}}
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
    tail = f"{separator}{compact(products)[1:-1]}}},{compact(rest)[1:]}\n"
    inserted = fits_cards.fill_gaps(recording.gaps, {**client, "job_id": job_id})
    return SplicedAnswer(b'{"query_status":"done","products":{', recording.head, tail.encode("utf-8"), inserted)


_API_CODE = "api_code"


def _is_small(member: JsonMember) -> bool:
    """Tell whether a member of `products` is made anew for each asker."""
    if member.name == _API_CODE:
        return isinstance(member.value, str)
    return member.name in VERSION_DEPENDENT and member.end - member.begin <= MAX_SMALL


def _anyones(member: JsonMember) -> Any:
    """Give a small member without its asker."""
    return redact_value(api_code.with_gaps(member.value) if member.name == _API_CODE else member.value)


def _head(text: str, products: list[JsonMember], large: Mapping[str, Any]) -> str:
    """Put the members of `products` that are kept together: as they were written, or as they had to be changed."""
    return ",".join(
        f"{json.dumps(m.name)}:{text[m.begin : m.end] if large[m.name] is m.value else compact(large[m.name])}"
        for m in products
        if m.name in large
    )
