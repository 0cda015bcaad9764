"""Requests for the dispatcher's other dummy instruments: those for `empty`, and what only theirs products have."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.support.mock_requests import NEW, TOKENS, Request, analysis

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OTHERS = ("empty-async", "empty-semi-async")
_POWERS = ("-1", "0", "3.9", "4", "10", "50", "51", "800", "801", "nan", "many", "")
_PATH = "/run_analysis"


def of_instrument(request: Request, instrument: str) -> Request | None:
    """Return the request for another instrument, or None if it does not name `empty`."""
    arguments = dict(request.query)
    if request.path != _PATH or arguments.get("instrument") != NEW["instrument"] or request.job_of is not None:
        return None
    query = tuple((name, instrument if name == "instrument" else text) for name, text in request.query)
    return replace(request, name=named(request.name, instrument), query=query)


def named(name: str, instrument: str) -> str:
    """Return the name of a request for another instrument."""
    return f"{name}, of {instrument}"


def requests_of_instruments(requests: Iterable[Request]) -> Iterator[Request]:
    """Yield the requests for all other instruments, and those of their numerical products."""
    of_empty = list(requests)
    for instrument in OTHERS:
        for request in of_empty:
            found = of_instrument(request, instrument)
            if found is not None:
                yield found
    for instrument in ("empty", *OTHERS):
        for power in _POWERS:
            changes = {"instrument": instrument, "product_type": "numerical", "p": power, "token": TOKENS["valid"]}
            yield analysis(f"{power!r} W, of {instrument}", changes)
        changes = {"instrument": instrument, "product_type": "numerical"}
        yield analysis(f"no token, of {instrument}", changes)
        yield analysis(f"real data, of {instrument}", {**changes, "query_type": "Real", "token": TOKENS["valid"]})
