"""Computing a recording again: its query is sent to the dispatcher, and the result replaces the recording."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from oda_proxy.errors import OdaProxyError
from oda_proxy.http.answer import buffered
from oda_proxy.http.message import Request
from oda_proxy.query.message_text import shorten
from oda_proxy.query.query import FORM, query_fields
from oda_proxy.recordings.obstacles import rerun_obstacle

if TYPE_CHECKING:
    from oda_proxy.http.answer import Answer
    from oda_proxy.proxy import Proxy
    from oda_proxy.store.base import Entry

CLIENT: Final = "1.3.5"
"""The release of oda_api in the request: the form of some products depends on it."""
MAX_STATE: Final = 2**20
"""Bytes of the state of a job; an answer with products is longer."""
MAX_MESSAGE: Final = 500


class CannotRefreshError(OdaProxyError):
    """A recording cannot be computed again, as it was recorded or by this server."""

    http_status = 409
    detail = "cannot-refresh"


class RefreshFailedError(OdaProxyError):
    """The dispatcher refuses to compute a recording again; the recording stays."""

    http_status = 502
    detail = "refresh-failed"


async def refresh(proxy: Proxy, entry: Entry, *, base_url: str) -> bool:
    """Have a public recording computed again, and return whether that is done already; else its job runs.

    Clients receive the old recording until the new one is stored. `base_url` is the address of this server. Raises
    CannotRefreshError and RefreshFailedError.
    """
    if reason := _obstacle(proxy, entry):
        raise CannotRefreshError(f"the recording cannot be computed again: {reason}")
    assert entry.query is not None  # noqa: S101 - as checked
    fields = [
        *query_fields(entry.query),
        ("query_status", "new"),
        ("session_id", secrets.token_hex(8).upper()),
        ("oda_api_version", CLIENT),
        ("off_line", "False"),
    ]
    body = urlencode(fields, errors="surrogateescape").encode()
    headers = (("Content-Type", FORM), ("Cache-Control", "no-cache"), ("Accept-Encoding", "identity"))
    answer = await proxy.answer(Request("POST", "/run_analysis", headers=headers, body=body), origin=base_url)
    try:
        if answer.cache_status.stored:
            return True
        if reason := await _failure(answer):
            raise RefreshFailedError(f"the recording was not computed again: {reason}")
        return False
    finally:
        await answer.close()


async def _failure(answer: Answer) -> str:
    """Return why an answer is no running job, or an empty text."""
    pieces = (await buffered(answer, MAX_STATE)).body
    try:
        state: Any = json.loads(b"".join(pieces)) if isinstance(pieces, tuple) else {"query_status": "done"}
        status = state["query_status"]
        if status == "failed":
            return shorten(str(state["exit_status"]["message"]), MAX_MESSAGE)
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"the dispatcher answers {answer.status}, and no state of a job"
    return f"the result could not be stored ({answer.cache_status.detail})" if status == "done" else ""


def _obstacle(proxy: Proxy, entry: Entry) -> str:
    """Return why a recording cannot be computed again, or an empty text."""
    if proxy.upstream is None:
        return "this server is offline"
    if entry.private:
        return "it is private, and only a client with the token of its person can request it"
    if entry.query is None:
        return "its query is not known"
    return rerun_obstacle(entry.query)
