"""Separate the fields of a request into the query and the envelope, which names the client.

The rules are the dispatcher's: query string and form are one set of names, and the order of names does not matter.
Values are not interpreted here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote_plus, urlencode

from oda_proxy.errors import BadQueryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MAX_FIELDS = 10_000
"""Fields read from one request: the longest known lists (science windows) have some hundreds."""

MAX_SESSION = 100
"""Longest session_id, in characters; that of clients has 16."""

FORM = "application/x-www-form-urlencoded"
"""Media type of a form without files."""

NUL = "\x00"
"""The text that clients since 1.2.42 send for `None`."""

ENVELOPE = frozenset(
    {
        "session_id",
        "job_id",
        "query_status",
        "token",
        "oda_api_version",
        "off_line",
        "async_dispatcher",
        "client-name",
    }
)
"""Fields that name the client, its job and its state. None of them is part of the query."""

CLIENT_DEFAULTS = {"verbose": "False", "dry_run": "False"}
"""Fields that clients up to 1.1.0 always send with these values and later clients leave out."""


_RETURN_PROGRESS = "return_progress"


@dataclass(frozen=True, slots=True)
class Token:
    """The token of a client: a secret, which does not print."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Query:
    """What a client wants computed.

    `parameters` holds every other field of the request with all its values as sent: sorted by name, the values of one
    name in the order sent.
    """

    instrument: str
    product_type: str
    query_type: str
    parameters: tuple[tuple[str, tuple[str, ...]], ...]
    api: bool
    files: tuple[tuple[str, str], ...] = ()
    """Uploaded files: the name of the field and the SHA-256 of the content, sorted."""

    @classmethod
    def from_dict(cls, members: Mapping[str, Any]) -> Query:
        """Read a query from what `dataclasses.asdict` returns.

        Raises KeyError, TypeError or ValueError where the members are damaged.
        """
        return cls(
            instrument=str(members["instrument"]),
            product_type=str(members["product_type"]),
            query_type=str(members["query_type"]),
            api=bool(members["api"]),
            parameters=tuple((str(name), tuple(map(str, values))) for name, values in members["parameters"]),
            files=tuple((str(name), str(digest)) for name, digest in members["files"]),
        )

    @property
    def is_partial(self) -> bool:
        """Whether it requests the products of a job that is still running, which are not the answer to the query."""
        at = bisect_left(self.parameters, (_RETURN_PROGRESS,))
        return at < len(self.parameters) and self.parameters[at][0] == _RETURN_PROGRESS


@dataclass(frozen=True, slots=True)
class Envelope:
    """The client and the state of its job: never stored, never logged, never in a key."""

    query_status: str = "new"
    session_id: str = field(default="", repr=False)
    job_id: str = field(default="", repr=False)
    token: Token | None = None
    others: Mapping[str, str] = field(default_factory=dict)
    """The remaining names of `ENVELOPE`, as sent."""
    sends_defaults: bool = False
    """Whether all of `CLIENT_DEFAULTS` were sent, with any values."""
    is_verbose: bool = False
    """Whether `verbose` was sent, with another value than the default: the dispatcher may remark on it."""

    @property
    def client_version(self) -> str | None:
        """The release of `oda_api` that sent the request; None for other programs.

        Releases since 1.0.9 send their version. 1.0 does not, and always sends all of `CLIENT_DEFAULTS`.
        """
        return self.others.get("oda_api_version", "1.0" if self.sends_defaults else None)

    @property
    def awaits_products(self) -> bool:
        """Whether an answer to this request may carry products: only those to `new` and `ready` do."""
        return self.query_status in {"new", "ready"}


def parse_fields(query_string: str, form: bytes = b"") -> list[tuple[str, str]]:
    """Parse the fields of a query string and of a URL-encoded form, in this order.

    Dispatchers read the first of several values of a name, so the query string takes precedence. Bytes that are not
    UTF-8 stay distinct from each other. Raises BadQueryError beyond `MAX_FIELDS` fields.
    """
    try:
        return [
            pair
            for text in (query_string, form.decode("utf-8", "surrogateescape"))
            for pair in parse_qsl(text, keep_blank_values=True, errors="surrogateescape", max_num_fields=MAX_FIELDS)
        ]
    except ValueError as error:
        raise BadQueryError(f"a request may have {MAX_FIELDS} fields at most") from error


def query_fields(query: Query) -> list[tuple[str, str]]:
    """Return the fields with which a query can be sent again; uploaded files are not among them."""
    pairs = [(name, value) for name, values in query.parameters for value in values]
    named = [("instrument", query.instrument), ("product_type", query.product_type), ("query_type", query.query_type)]
    return [*pairs, *named, *([("api", "True")] if query.api else [])]


def replace_fields(text: str, **changes: str) -> str:
    """Return a query string or form with other values for some names; an empty value removes the name.

    What is not changed keeps its bytes and its place.
    """
    left, parts = dict(changes), []
    for part in text.split("&") if text else ():
        name = unquote_plus(part.partition("=")[0])
        if name not in changes:
            parts.append(part)
        elif value := left.pop(name, ""):
            parts.append(urlencode({name: value}))
    return "&".join([*parts, *(urlencode({name: value}) for name, value in left.items() if value)])


def split_query(pairs: Iterable[tuple[str, str]], files: Iterable[tuple[str, str]] = ()) -> tuple[Query, Envelope]:
    """Separate the fields of a request into its query and its envelope.

    Raises BadQueryError where the instrument, product_type or query_type is missing or comes twice, or where a field
    of the envelope has two values: the dispatcher answers the former with its own error, and which of two values it
    reads is not certain.
    """
    values: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in pairs:
        values[name].append(value)
    sends_defaults = CLIENT_DEFAULTS.keys() <= values.keys()
    is_verbose = values.get("verbose", [CLIENT_DEFAULTS["verbose"]]) != [CLIENT_DEFAULTS["verbose"]]
    sent = {name: values.pop(name) for name in ENVELOPE if name in values}
    envelope = read_envelope(sent, sends_defaults=sends_defaults, is_verbose=is_verbose)
    for name, default in CLIENT_DEFAULTS.items():
        if values.get(name) == [default]:
            del values[name]
    api = values.pop("api", None) is not None  # its presence counts, whatever its value
    named = {name: values.pop(name, []) for name in ("instrument", "product_type", "query_type")}
    for name, texts in named.items():
        if len(texts) != 1:
            raise BadQueryError(f"the request must have one {name}, it has {len(texts)}")
    parameters = tuple(sorted((name, tuple(texts)) for name, texts in values.items()))
    query = Query(
        **{name: texts[0] for name, texts in named.items()}, parameters=parameters, api=api, files=_by_name(files)
    )
    return query, envelope


def _by_name(files: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Sort uploaded files by their fields; dispatchers read the first of two files in one field."""
    return tuple(sorted(files, key=lambda file: file[0]))


def read_envelope(sent: Mapping[str, Sequence[str]], *, sends_defaults: bool, is_verbose: bool) -> Envelope:
    """Return the envelope of a request from the values of its fields in `ENVELOPE`.

    Raises BadQueryError for a field with two different values, and for a session_id that no dispatcher accepts.
    """
    for name, values in sent.items():
        if len(values) > 1 and len(set(values)) > 1:
            raise BadQueryError(f"the request has {len(values)} different values of {name}")
    one = {name: values[0] for name, values in sent.items()}
    session_id, token = one.pop("session_id", ""), one.pop("token", None)
    if len(session_id) > MAX_SESSION or "/" in session_id or NUL in session_id:
        raise BadQueryError("the session_id cannot be part of the name of a folder, as the dispatcher needs it")
    return Envelope(
        query_status=one.pop("query_status", ""),
        session_id=session_id,
        job_id=one.pop("job_id", ""),
        token=None if token is None else Token(token),
        others=one,
        sends_defaults=sends_defaults,
        is_verbose=is_verbose,
    )
