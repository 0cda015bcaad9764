"""Browsers: the policy of the proxy is the same for every answer."""

from __future__ import annotations

import pytest

from oda_proxy.http.answer import Answer
from oda_proxy.http.cache_status import CacheStatus
from oda_proxy.http.cors import ANY_ORIGIN, CorsPolicy
from oda_proxy.http.message import Headers, Request

SITE = "https://site.example"
ANSWER = Answer(
    200,
    (("Access-Control-Allow-Origin", "https://other.example"), ("Content-Type", "application/json")),
    (b"{}",),
    CacheStatus(),
)


def allowed(headers: Headers) -> list[str]:
    return [value for name, value in headers if name == "Access-Control-Allow-Origin"]


def preflight(origin: str) -> Request:
    headers = (("Origin", origin), ("Access-Control-Request-Method", "GET"))
    return Request("OPTIONS", "/run_analysis", headers=(*headers, ("Access-Control-Request-Headers", "x-a")))


@pytest.mark.parametrize(
    ("origins", "origin", "expected"),
    [
        ({SITE}, SITE, [SITE]),
        ({SITE}, "https://evil.example", []),
        ({SITE}, "https://site.example.evil.example", []),
        ({ANY_ORIGIN}, "https://evil.example", ["*"]),
        (set(), SITE, ["https://other.example"]),
    ],
)
def test_the_headers_of_the_dispatcher_are_replaced_by_those_of_the_policy(
    origins: set[str], origin: str, expected: list[str]
) -> None:
    answer = CorsPolicy(frozenset(origins)).apply(ANSWER, (("Origin", origin),))

    assert allowed(answer.headers) == expected


def test_caches_are_told_that_answers_differ_by_origin_also_without_one() -> None:
    assert ("Vary", "Origin") in CorsPolicy(frozenset({SITE})).apply(ANSWER, ()).headers
    assert ("Vary", "Origin") not in CorsPolicy(frozenset({ANY_ORIGIN})).apply(ANSWER, ()).headers


def test_a_preflight_request_of_an_allowed_origin_is_answered() -> None:
    answer = CorsPolicy(frozenset({SITE})).preflight_answer(preflight(SITE))

    assert answer is not None
    assert (answer.status, answer.body, allowed(answer.headers)) == (204, (), [SITE])
    assert ("Access-Control-Allow-Headers", "x-a") in answer.headers


def test_a_preflight_request_of_another_origin_is_answered_without_a_permission() -> None:
    answer = CorsPolicy(frozenset({SITE})).preflight_answer(preflight("https://evil.example"))

    assert answer is not None
    assert not any(name.startswith("Access-Control") for name, _ in answer.headers)


def test_without_origins_preflight_requests_are_the_dispatchers() -> None:
    assert CorsPolicy().preflight_answer(preflight(SITE)) is None
