"""Why a recorded query cannot be sent to a dispatcher again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oda_proxy.query.query import query_fields
from oda_proxy.recordings.redaction import REMOVED

if TYPE_CHECKING:
    from oda_proxy.query.query import Query


def rerun_obstacle(query: Query) -> str:
    """Return why a query cannot be sent again as it was recorded, or an empty text."""
    if query.files:
        return "it uploads a file, of which only the digest was recorded"
    if any(REMOVED in value for _, value in query_fields(query)):
        return "an e-mail address was removed from the recorded query"
    return ""
