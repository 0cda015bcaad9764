"""A client that waits for a job."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from oda_proxy.query import analysis_request

if TYPE_CHECKING:
    from oda_proxy.http.message import Request
    from oda_proxy.query.query import Envelope


@dataclass(frozen=True, slots=True)
class Client:
    """A client, known by one of its requests; `base_url` is the proxy's address as the client sees it."""

    request: Request
    envelope: Envelope
    base_url: str

    def uncompressed(self) -> Client:
        """Return a client whose request accepts no content coding, for an answer that we can read."""
        return replace(self, request=analysis_request.uncompressed(self.request))
