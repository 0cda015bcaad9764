"""Requests that were sent before, but for their session, and the responses to them.

Most requests of a client have the same bytes as those of others but for the value of `session_id`. What such a request
means was found out before, by aiohttp and by the proxy; only what may have changed since then is checked.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from oda_proxy.errors import BadQueryError
from oda_proxy.query.query import parse_fields
from oda_proxy.web.whole_response import header_date

if TYPE_CHECKING:
    from oda_proxy.http.answer import Repeatable
    from oda_proxy.web.log_formats import RequestRecord
    from oda_proxy.web.request_log import RequestIds, RequestLog

MAX_REQUEST: Final = 4096
"""Bytes of a request up to which it is memoised; those of clients with a catalogue are longer."""
MAX_RESPONSE: Final = 4 * 1024 * 1024
"""Bytes of a body up to which the response is repeated: it is given to the socket at once."""
MAX_REQUESTS: Final = 1024
"""Requests that are memoised, those that were sent last."""

_SESSION: Final = re.compile(rb"[?&]session_id=([A-Za-z0-9_-]{1,100})(?=[& ])")
_CUT: Final = b"\0"
"""What takes the place of the session; no request that is answered has this byte."""
_ANONYMOUS: Final = b"new"
"""What clients send that have no session yet: each gets one of its own."""

Origin = tuple[str, str, str]
"""What is known of a connection, and not from its bytes: the scheme, and the addresses of the client and the server."""


class Candidate(NamedTuple):
    """A request without its session."""

    key: tuple[Origin, bytes]
    session_id: str


class Account(NamedTuple):
    """What was logged of a request, where it was, and where its application gets ids from."""

    record: RequestRecord
    log: RequestLog
    ids: RequestIds


class FirstResponse(NamedTuple):
    """A response to be repeated: its head has places for `Content-Length`, `Age`, `X-Request-ID` and `Date`."""

    hit: Repeatable
    head: str
    account: Account


class RepeatedResponse(NamedTuple):
    """A response in parts, whose body has `size` bytes, its id, and the account of the first such request."""

    parts: list[bytes]
    size: int
    request_id: str
    account: Account


class RepeatedRequests:
    """The requests that were sent before, but for their session; the first two are answered in the ordinary way."""

    def __init__(self) -> None:
        self._responses: OrderedDict[tuple[Origin, bytes], FirstResponse | None] = OrderedDict()

    def __len__(self) -> int:
        return sum(response is not None for response in self._responses.values())

    def find(self, candidate: Candidate) -> RepeatedResponse | None:
        """Return the response to a request; None where it has to be answered in the ordinary way."""
        response = self._responses.get(candidate.key)
        if response is None or (repeated := response.hit.repeat(candidate.session_id)) is None:
            return None
        self._responses.move_to_end(candidate.key)
        age, body = repeated
        size = sum(map(len, body))
        request_id = response.account.ids.new()
        head = (response.head % (size, age, request_id, header_date(int(time.time())))).encode()
        return RepeatedResponse([head, *body], size, request_id, response.account)

    def is_wanted(self, candidate: Candidate) -> bool:
        """Return whether the request was sent before; note that it was sent now."""
        if candidate.key in self._responses:
            return True
        self._responses[candidate.key] = None
        if len(self._responses) > MAX_REQUESTS:
            self._responses.popitem(last=False)
        return False

    def add(self, candidate: Candidate, response: FirstResponse) -> None:
        """Add what repeats the response to a request."""
        self._responses[candidate.key] = response


def candidate_of(origin: Origin, data: bytes) -> Candidate | None:
    """Return what was received as a request without its session; None where it may not be repeated."""
    if len(data) > MAX_REQUEST or (found := _SESSION.search(data)) is None:
        return None
    begin, end = found.span(1)
    session_id = data[begin:end]
    if session_id == _ANONYMOUS:
        return None
    return Candidate((origin, data[:begin] + _CUT + data[end:]), session_id.decode())


def is_only_session(candidate: Candidate, raw_path: str) -> bool:
    """Return whether what was cut out of a request for a path is the value of its field `session_id`, and no more."""
    (_, rest), session_id = candidate
    if not rest.replace(_CUT, session_id.encode()).startswith(
        b"GET %b HTTP/1.1\r\n" % raw_path.encode("utf-8", "surrogateescape")
    ):
        return False
    other = rest.replace(_CUT, session_id.encode() + b"-").split(b" ", 2)[1].decode("utf-8", "surrogateescape")
    path, _, query_string = raw_path.partition("?")
    other_path, _, other_query_string = other.partition("?")
    try:
        fields, other_fields = parse_fields(query_string), parse_fields(other_query_string)
    except BadQueryError:
        return False
    expected = [(name, f"{value}-" if name == "session_id" else value) for name, value in fields]
    # Where they do not differ, the session was cut out of a header.
    return other_path == path and other_fields == expected != fields
