"""What is noted of requests for the log.

Names are noted only where the dispatcher describes them, or there is a recording of them: a client may send anything in
their place, also a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from oda_proxy.query.audience import read_claims

if TYPE_CHECKING:
    from oda_proxy.http.message import Request
    from oda_proxy.query.query import Token
    from oda_proxy.query.resolved import ResolvedQuery
    from oda_proxy.recordings.recording import Recording


def note_query(request: Request, resolved: ResolvedQuery) -> None:
    """Note the names and the key of a query."""
    if (notes := request.notes) is not None:
        notes.key = resolved.key
        if resolved.schemas:
            notes.instrument = resolved.query.instrument
            if resolved.query.product_type in resolved.schemas[0].products:
                notes.product = resolved.query.product_type


def note_recording(request: Request, recording: Recording) -> None:
    """Note the names of a recording that is served."""
    if (notes := request.notes) is not None and recording.query is not None:
        notes.instrument, notes.product = recording.query.instrument, recording.query.product_type


def note_person(request: Request, token: Token | None) -> None:
    """Note whose token a request has, which is verified."""
    if token is not None and request.notes is not None and (claims := read_claims(token)):
        request.notes.subject = claims.subject
