"""Requests for routes that are not cached: they are relayed."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from multidict import CIMultiDict

from oda_proxy.compat.failure_answers import failure_answer
from oda_proxy.errors import FilesNotStoredError
from oda_proxy.http import routes
from oda_proxy.http.cors import ANY_ORIGIN
from oda_proxy.http.cross_site import check_site
from oda_proxy.query.query import Envelope, parse_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.handlers.services import OtherProcesses
    from oda_proxy.handlers.sessions import ServedSessions
    from oda_proxy.http.answer import Answer
    from oda_proxy.http.cors import CorsPolicy
    from oda_proxy.http.message import Request
    from oda_proxy.http.routes import Route
    from oda_proxy.upstream.relay import Relay


class OtherRouteHandler:
    """Relays requests, and notes what they change."""

    def __init__(
        self,
        relay: Relay,
        cors: CorsPolicy,
        sessions: ServedSessions,
        others: OtherProcesses | None,
        *,
        expire_descriptions: Callable[[], None],
        note_report: Callable[[str], None],
    ) -> None:
        """Take what to call when the descriptions change, and when the dispatcher reports about a job, with its id."""
        self._relay = relay
        self._cors = cors
        self._sessions = sessions
        self._others = others
        self._expire_descriptions = expire_descriptions
        self._note_report = note_report

    async def answer(self, request: Request, route: Route, base_url: str) -> Answer:
        """Relay a request; `base_url` is the proxy's, for the client. Raises OdaProxyError."""
        if routes.is_closed(route.path) and ANY_ORIGIN not in self._cors.origins:
            check_site(request.method, CIMultiDict(request.headers), self._cors.origins)
        answer = await self._relay.send(request, base_url, "bypass")
        if routes.changes_descriptions(route.path) and answer.status < HTTPStatus.BAD_REQUEST:
            self._expire_descriptions()
            if self._others:
                await self._others.expire_descriptions()
        if route.path == "/call_back":
            self._note_report(dict(parse_fields(request.query_string)).get("job_id", ""))
        if route.path == "/download_products" and answer.status >= HTTPStatus.BAD_REQUEST:
            return await self._explain_download(answer, request)
        return answer

    async def _explain_download(self, answer: Answer, request: Request) -> Answer:
        """Say why a download fails in a session that received a recording: the dispatcher has no files for it."""
        fields = dict(parse_fields(request.query_string))
        session_id, job_id = fields.get("session_id", ""), fields.get("job_id", "")
        if session_id not in self._sessions and not (self._others and await self._others.have_served(session_id)):
            return answer
        await answer.close()
        return failure_answer(FilesNotStoredError(), Envelope(session_id=session_id, job_id=job_id))
