"""Redact a completed answer to a Recording, and splice a Recording into an answer for another client.

An answer names its client (session, job, token) in many places, since 2020 all of them outside the products. A
recording therefore has

- a *head*: the members of `products` that name no client, each as the dispatcher wrote it, and
- a *tail*: what else the answer has about the analysis, without the client, written again for each client.

Every member is stored that is not known to name the client, so that a hit has what the first answer had. Members are
redacted, and an answer that still names its client is not stored (`leak_check`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from oda_proxy.codec.json_steps import compact
from oda_proxy.compat.answer_writer import compact_pieces
from oda_proxy.compat.generations import VERSION_DEPENDENT, adapted
from oda_proxy.compat.parsed_answer import PRODUCTS, ProductList, parse_answer
from oda_proxy.compat.pickles import Pickles
from oda_proxy.compat.text_repairs import parsed_object
from oda_proxy.query.normalised import IGNORED
from oda_proxy.query.query import CLIENT_DEFAULTS, ENVELOPE
from oda_proxy.recordings import api_code, fits_cards
from oda_proxy.recordings.head import MemoryHead, MemoryHeadWriter
from oda_proxy.recordings.leak_check import LeakCheck, check_no_secrets, collect_secrets
from oda_proxy.recordings.redaction import NotStorableError, names_client, redact_value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from oda_proxy.codec.json_reader import JsonItem, JsonMember
    from oda_proxy.query.cache_key import Key
    from oda_proxy.query.query import Envelope, Query
    from oda_proxy.recordings.fits_cards import Gap
    from oda_proxy.recordings.head import Head, HeadWriter

FORMAT = 2
"""Version of the content of a recording."""

_KNOWN_PRODUCTS = frozenset(
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
"""Members of `products` that are known to identify nobody; in others, names such as `session_id` reveal secrets."""

_WRITTEN = frozenset(
    {"exit_status", "job_id", "job_monitor", "job_status", "products", "query_status", "session_id", "time_request"}
)
"""Members of an answer that are written for each client."""

_CONFIGURATION = frozenset({"config"})
"""Members in which dispatchers show their configuration: folders and addresses."""

_PARAMETERS = frozenset({"analysis_parameters", "analysis_paramters"})
"""Names of the echo of the request, today and in 2019."""

_EXIT_STATUS = ("status", "message", "error_message", "debug_message", "comment", "warning", "job_status")
"""Members of `exit_status` that are stored: others are about mail and messages to the client."""


PRODUCT_IDS = ("session_id", "job_id")
"""Members of `products` that name the client, as all known dispatchers write them."""

MAX_SMALL = 1024 * 1024
"""Largest member in bytes that is adapted to each client, and therefore in the tail; the largest known has some kB."""


@dataclass(frozen=True, slots=True)
class Recording:
    """The completed answer to one query, with only what other clients may see.

    `head` is JSON text: the members of `products`, without the braces. `stored_at` is in s since 1970 (UTC).
    """

    key: Key
    stored_at: float
    head: Head = field(repr=False)
    exit_status: Mapping[str, Any]
    parameters: Mapping[str, Mapping[str, Any]]
    """The echo without the client, under its name in the answer; at most one."""
    echoed: tuple[str, ...]
    """Fields of the envelope that the dispatcher echoes, in its order."""
    query: Query | None = None
    """The redacted query, for people; None where it is not known."""
    private: bool = False
    """Whether the request had a token: a private answer must not get into published fixtures."""
    cost: float = 0.0
    """How long the dispatcher took, in s from the first request to the complete answer; 0 if unknown."""
    timeline: tuple[tuple[str, float], ...] = ()
    """The states of the job, each with its time in s after the first request; empty if unknown."""
    job_id: str = ""
    """The dispatcher's name for the job of a public query, which is the same for all clients; "" if unknown."""
    client_members: Mapping[str, Any] = field(default_factory=dict)
    """Members of `products` whose form depends on the client: `api_code`, and those in `VERSION_DEPENDENT`."""
    gaps: tuple[Gap, ...] = ()
    """The places in the head where FITS cards name the client, in order."""
    other_members: Mapping[str, Any] = field(default_factory=dict)
    """Members of the answer beside `products` that this release does not know."""
    product_ids: tuple[str, ...] = PRODUCT_IDS
    """Those of `PRODUCT_IDS` that the answer had."""

    @property
    def echo(self) -> Mapping[str, Any]:
        """The parameters that the dispatcher echoed, without the client; empty where it echoed none."""
        return next(iter(self.parameters.values()), {})


@dataclass(frozen=True, slots=True)
class SplicedAnswer:
    """An answer for one client: a JSON text in three parts, of which only the last is written for the client.

    `inserted` are the texts to insert in the head for this client, each with its offset, in order.
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
        """Yield the answer in pieces; blocks while the head is read. Raises StoreUnusableError."""
        yield self.begin
        yield from fits_cards.interleave(self.head.pieces(), self.inserted)
        yield self.end


def redact(
    body: bytes, envelope: Envelope, *, key: Key, stored_at: float, requested: Collection[str] = frozenset()
) -> Recording:
    """Make a recording of the `body` of an answer with status 200 to a request that awaits products.

    `requested` are the names of the query's parameters: remarks on them are for all clients. Raises NotStorableError
    for an answer that is incomplete, unsuccessful, or still names its client.
    """
    try:
        parsed = parse_answer(body)
    except (ValueError, RecursionError):
        raise NotStorableError("not-an-answer") from None
    if not parsed.has_products:
        raise NotStorableError("not-an-answer")
    others = {member.name: member.value for member in parsed.members if member.name != PRODUCTS}
    redactor = Redactor(envelope, MemoryHeadWriter(), requested)
    redactor.begin(others, {member.name: member.value for member in parsed.products}, Pickles())

    def pieces(part: JsonMember | JsonItem) -> list[bytes]:
        return list(parsed.text(part.begin, part.end))

    for member in parsed.products:
        if not isinstance(member.value, ProductList):
            redactor.add_member(member.name, member.value, pieces(member))
            continue
        redactor.begin_list(member.name)
        for before, item in member.value.take_all():
            redactor.add_punctuation(before)
            if item:
                redactor.add_item(item.value, pieces(item))
    return redactor.finish(key=key, stored_at=stored_at)


class Redactor:
    """Redacts an answer, whose members it takes one by one, to a recording.

    The head is written while that goes on. Each method raises NotStorableError for an answer that is incomplete,
    unsuccessful, or still names its client.
    """

    def __init__(self, envelope: Envelope, head: HeadWriter, requested: Collection[str]) -> None:
        """Take the client, what writes the head, and the names of the parameters on which remarks are for all."""
        self._envelope = envelope
        self._head = head
        self._requested = requested
        self._size = 0
        self._taken: list[fits_cards.Cards] = []
        self._gaps: list[Gap] = []
        self._client_members: dict[str, Any] = {}

    def begin(self, others: Mapping[str, Any], products: Mapping[str, Any], pickles: Pickles) -> None:
        """Take the members beside `products`, and those of `products`, whose texts follow.

        `pickles` are those of the answer that were decoded before.
        """
        exit_status = others.get("exit_status")
        if others.get("query_status") != "done" or not isinstance(exit_status, dict) or exit_status.get("status") != 0:
            raise NotStorableError("not-done")
        if not products:
            raise NotStorableError("no-products")
        self._echoes = {name: value for name, value in products.items() if name in _PARAMETERS}
        if not all(isinstance(echo, dict) for echo in self._echoes.values()):
            raise NotStorableError("not-an-answer")
        self._exit_status, self._others, self._pickles = exit_status, others, pickles
        self._product_ids = tuple(name for name in PRODUCT_IDS if name in products)
        rest = {name: value for name, value in products.items() if name not in _KNOWN_PRODUCTS}
        values = [_elements(value) for value in products.values()]
        secrets = collect_secrets(self._envelope, others, rest, products=values)
        self._check = LeakCheck(secrets, pickles.is_repeated)

    def add_member(self, name: str, value: Any, pieces: Sequence[bytes]) -> None:
        """Take a member of `products` with its text."""
        if not _is_stored(name):
            return
        if _is_adapted(name, value, sum(map(len, pieces))):
            self._client_members[name] = _redacted_member(name, value)
            return
        self._write_name(name)
        self._write_value(value, pieces)

    def begin_list(self, name: str) -> None:
        """Begin with a member of `products` that is a list, of which each element is taken by itself."""
        self._write_name(name)

    def add_punctuation(self, text: str) -> None:
        """Take the text before an element of the list, or after the last one."""
        self._write(text.encode())

    def add_item(self, value: Any, pieces: Sequence[bytes]) -> None:
        """Take an element of the list with its text."""
        self._write_value(value, pieces)

    def finish(self, *, key: Key, stored_at: float) -> Recording:
        """Return the recording; `stored_at` is in s since 1970 (UTC)."""
        recording = Recording(
            key=key,
            stored_at=stored_at,
            head=MemoryHead(b""),
            exit_status=_redacted_status(self._exit_status, CLIENT_DEFAULTS.keys() - self._requested),
            parameters={
                name: redact_value({k: v for k, v in echo.items() if k not in ENVELOPE})
                for name, echo in self._echoes.items()
            },
            echoed=tuple(name for echo in self._echoes.values() for name in echo if name in ENVELOPE),
            private=self._envelope.token is not None,
            client_members=self._client_members,
            gaps=tuple(self._gaps),
            other_members=_other_members(self._others),
            product_ids=self._product_ids,
        )
        stored = [self._taken, recording.exit_status, recording.parameters, recording.client_members]
        self._check.add([*stored, recording.other_members])
        self._check.finish()
        return replace(recording, head=self._head.finish())

    def _write_name(self, name: str) -> None:
        self._check.add({name: None})
        self._write(f"{',' if self._size else ''}{json.dumps(name)}:".encode("ascii"))

    def _write_value(self, value: Any, pieces: Sequence[bytes]) -> None:
        """Redact, write and check a value: as it was sent, or as redaction changes it."""
        first = len(self._taken)
        redacted = redact_value(fits_cards.mark_cards(value, self._taken))
        if len(self._taken) > first:
            text, gaps = fits_cards.extract_cards(compact(redacted), self._taken, first)
            self._gaps += [gap._replace(offset=self._size + gap.offset) for gap in gaps]
            pieces = (text,)
        elif redacted is not value:
            pieces = list(compact_pieces(redacted))
        for piece in pieces:
            self._write(piece)  # first, to be compressed while it is checked
        self._check.add(redacted, self._pickles.decoded)

    def _write(self, piece: bytes) -> None:
        self._head.write(piece)
        self._size += len(piece)


def _elements(value: Any) -> Any:
    """Return the products of a list without their positions; a product, and a unit of one, may be JSON text."""
    if not isinstance(value, ProductList):
        return value
    products = [parsed_object(item.value) for item in value]
    units = [product.get("data_unit_list") for product in products if isinstance(product, dict)]
    return [products, [parsed_object(unit) for some in units if isinstance(some, list) for unit in some]]


def _is_stored(name: str) -> bool:
    """Return whether a member of `products` is stored: all but the echo, and what names the client."""
    return name not in _PARAMETERS and not names_client(name)


def _other_members(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the redacted members of an answer that are not written for each client.

    Raises NotStorableError if they are larger than what is sent with each hit.
    """
    unknown = {name: value for name, value in answer.items() if name not in _WRITTEN | _CONFIGURATION}
    others: dict[str, Any] = redact_value(unknown)
    if len(compact(others)) > MAX_SMALL:
        raise NotStorableError("unknown-members")
    return others


_UNUSED = re.compile(r"Please note that arguments? (?P<names>[^\n]+?) (?:is|are) not used")


def _redacted_status(exit_status: Mapping[str, Any], of_clients: Collection[str]) -> Mapping[str, Any]:
    """Return the exit status without remarks on the arguments `of_clients`, which some clients always send.

    Dispatchers remark on arguments that they do not know; clients up to 1.1.0 always send two of them.
    """
    stored: dict[str, Any] = redact_value({name: exit_status[name] for name in _EXIT_STATUS if name in exit_status})
    return _without_remarks(stored, of_clients)


def _without_remarks(exit_status: Mapping[str, Any], arguments: Collection[str]) -> Mapping[str, Any]:
    """Return the exit status without remarks that these arguments are not used."""
    if not isinstance(comment := exit_status.get("comment"), str):
        return exit_status
    return {**exit_status, "comment": _UNUSED.sub(lambda remark: _remark_on_others(remark, arguments), comment)}


def _remark_on_others(remark: re.Match[str], of_clients: Collection[str]) -> str:
    names = remark["names"].split(", ")
    others = [name for name in names if name not in of_clients]
    if others == names:
        return remark[0]
    many = len(others) > 1
    words = f"Please note that argument{'s' * many} {', '.join(others)} {'are' if many else 'is'} not used"
    return words if others else ""


def redact_query(query: Query, envelope: Envelope) -> Query:
    """Return a query without what names the client among its values, as it may be stored beside the answer.

    Raises NotStorableError where it still names the client.
    """
    parameters = redact_value({name: list(values) for name, values in query.parameters})
    check_no_secrets([query.instrument, query.product_type, query.query_type, parameters], collect_secrets(envelope))
    return replace(query, parameters=tuple((name, tuple(values)) for name, values in parameters.items()))


def splice(recording: Recording, envelope: Envelope, *, now: float, address: str) -> SplicedAnswer:
    """Return a recording as an answer for a client, without reading its head.

    `now` is in s since 1970 (UTC), as the dispatcher's `time_request`; `address` is where the client reaches us.
    """
    client, job_id = client_values(recording, envelope)
    end = tail(
        recording,
        client,
        job_id=job_id,
        version=envelope.client_version,
        is_verbose=envelope.is_verbose,
        now=now,
        address=address,
    )
    inserted = fits_cards.fill_gaps(recording.gaps, {**client, "job_id": job_id})
    return SplicedAnswer(BEGIN, recording.head, end.encode("ascii"), inserted)


BEGIN = b'{"query_status":"done","products":{'
"""The beginning of each answer, before the head."""


def client_values(recording: Recording, envelope: Envelope) -> tuple[dict[str, Any], str]:
    """Return the fields that a client sent, as an answer repeats them, and the job_id in its answer."""
    client: dict[str, Any] = {
        "session_id": envelope.session_id,
        "query_status": envelope.query_status,
        "token": envelope.token.text if envelope.token else None,
        **({"job_id": envelope.job_id} if envelope.job_id else {}),
        **envelope.others,
    }
    return client, envelope.job_id or recording.job_id or recording.key[:16]


def tail(
    recording: Recording,
    client: Mapping[str, Any],
    *,
    job_id: str,
    version: str | None,
    is_verbose: bool,
    now: float | str,
    address: str,
) -> str:
    """Return the part of an answer after the head, as ASCII; `client` and `job_id` are those of `client_values`.

    `version` is the client's release of `oda_api`. `now` is a text where a template is compiled.
    """
    session_id = client["session_id"]
    products = {
        **{
            name: api_code.fill_gaps(value, client, address) if name == _API_CODE else adapted(name, value, version)
            for name, value in recording.client_members.items()
        },
        **{
            name: {**echo, **{field: client[field] for field in recording.echoed if field in client}}
            for name, echo in recording.parameters.items()
        },
        **{name: {"session_id": session_id, "job_id": job_id}[name] for name in recording.product_ids},
    }
    rest = {
        **recording.other_members,
        "exit_status": recording.exit_status if is_verbose else _without_remarks(recording.exit_status, IGNORED),
        "job_monitor": {"job_id": job_id, "session_id": session_id, "status": "done"},
        "job_status": "done",
        "session_id": session_id,
        "time_request": now,
    }
    separator = "," if recording.head.size and products else ""
    return f"{separator}{compact(products)[1:-1]}}},{compact(rest)[1:]}\n"


_API_CODE = "api_code"


def _is_adapted(name: str, value: Any, size: int) -> bool:
    """Return whether a member of `products`, with a text of `size` bytes, is adapted to each client."""
    if name == _API_CODE:
        return isinstance(value, str)
    return name in VERSION_DEPENDENT and size <= MAX_SMALL


def _redacted_member(name: str, value: Any) -> Any:
    """Return a member that is adapted to each client, without its client."""
    return redact_value(api_code.with_gaps(value) if name == _API_CODE else value)
