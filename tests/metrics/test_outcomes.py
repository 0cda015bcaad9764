"""What became of a request."""

from __future__ import annotations

import ast

import pytest

from oda_proxy import errors
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.metrics.outcomes import OUTCOMES, Outcome, outcome_of
from tests.support.paths import CHECKOUT


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (CacheStatus(hit=True, from_memory=True), Outcome.HIT_HOT),
        (CacheStatus(hit=True), Outcome.HIT_COLD),
        (CacheStatus(hit=True, detail="stale"), Outcome.STALE),
        (CacheStatus(forwarded="uri-miss", status=200, stored=True), Outcome.MISS),
        (CacheStatus(forwarded="stale", status=200), Outcome.EXPIRED),
        (CacheStatus(forwarded="request", status=200), Outcome.REFRESHED),
        (CacheStatus(forwarded="bypass", status=200), Outcome.BYPASS),
        (CacheStatus(forwarded="uri-miss", collapsed=True, detail="running"), Outcome.JOINED),
        (CacheStatus(forwarded="uri-miss", collapsed=True, detail="failed"), Outcome.FAILED),
        (CacheStatus(detail="no-recording"), Outcome.REFUSED),
        (CacheStatus(detail="unreachable"), Outcome.FAILED),
        (CacheStatus(detail="given-up"), Outcome.FAILED),
        (CacheStatus(), Outcome.REFUSED),
    ],
)
def test_the_outcome_is_read_from_the_cache_status(status: CacheStatus, expected: Outcome) -> None:
    assert outcome_of(status) is expected


def test_where_a_recording_was_is_neither_shown_nor_compared() -> None:
    assert str(CacheStatus(hit=True, from_memory=True)) == "oda-proxy; hit"
    assert CacheStatus(hit=True, from_memory=True) == CacheStatus(hit=True)


def test_a_request_that_is_refused_did_not_reach_a_dispatcher() -> None:
    """Every error with a status of the client, or of a limit, is a refusal; the others are failures."""
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.OdaProxyError)
    ]
    refused = {kind.__name__ for kind in kinds if outcome_of(CacheStatus(detail=kind.detail)) is Outcome.REFUSED}

    assert refused == {
        "BadQueryError",
        "FilesNotStoredError",
        "LocalLimitError",
        "NoRecordingError",
        "NotCachedError",
        "RequestIncompleteError",
        "RouteClosedError",
        "TokenRefusedError",
        "UpstreamPausedError",
    }


def test_labels_are_words_and_each_outcome_says_what_it_means() -> None:
    module = ast.parse((CHECKOUT / "oda_proxy/metrics/outcomes.py").read_text())
    (enum,) = (node for node in module.body if isinstance(node, ast.ClassDef))
    texts = [node for node in enum.body if isinstance(node, ast.Expr)]

    assert len(texts) - 1 == len(OUTCOMES) == len(set(OUTCOMES))
    assert all(label.replace("_", "").isalpha() and label.islower() for label in OUTCOMES)
