"""The prefixes of a path select a past time and a collection."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.errors import BadQueryError
from oda_proxy.http.routes import Kind, Route, find
from oda_proxy.http.scope import EVERYTHING, AsOf, Scope, ScopeError, parse_name

NOON = datetime(2026, 6, 15, 12, 0, tzinfo=UTC).timestamp()
DAY = AsOf.parse("2026-03-01")
OF_ODA_API = re.compile(r"[a-z0-9/-]*", re.IGNORECASE)
"""What `oda_api.misc_helpers.validate_url` accepts as the path of an address, from 1.1.46 to 1.3.5."""


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("text", "begin", "last"),
    [
        ("2026-03-01", "2026-03-01T00:00:00Z", "2026-03-01T23:59:59.999999Z"),
        ("20260301", "2026-03-01T00:00:00Z", "2026-03-01T23:59:59.999999Z"),
        ("2026-03-01T12-30", "2026-03-01T12:30:00Z", "2026-03-01T12:30:59.999999Z"),
        ("2026-03-01T12-30-05", "2026-03-01T12:30:05Z", "2026-03-01T12:30:05.999999Z"),
        ("2026-03-01T12:30:05Z", "2026-03-01T12:30:05Z", "2026-03-01T12:30:05.999999Z"),
        ("20260301T123005Z", "2026-03-01T12:30:05Z", "2026-03-01T12:30:05.999999Z"),
        ("20260301123005", "2026-03-01T12:30:05Z", "2026-03-01T12:30:05.999999Z"),
    ],
)
def test_a_time_is_the_last_moment_of_what_is_named(text: str, begin: str, last: str) -> None:
    as_of = AsOf.parse(text)

    assert as_of.begin == _seconds(begin)
    assert as_of.time == pytest.approx(_seconds(last), abs=1e-6, rel=0)


@pytest.mark.parametrize(
    "text",
    [
        *("", "yesterday", "2026-13-01", "2026-02-30", "2026-3-1", "2026-03-01T25-00", "2026-03-01T12-30-60"),
        *("2026-0301", "2026-03-01T12:30+01:00", "2026-03-01T12", "٢٠٢٦-03-01", "0000-01-01", "2026-03-01\n"),
        "x" * 4000,
    ],
)
def test_another_text_is_no_date(text: str) -> None:
    with pytest.raises(ScopeError, match="is not a date: write one such as 2026-03-01") as caught:
        AsOf.parse(text)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["", "a/b", "..", "a.b", "a_b", "-a", "a-", "a" * 65, "ä", "a b", "my-paper\n"])
def test_another_text_is_no_name_of_a_collection(text: str) -> None:
    with pytest.raises(ScopeError, match="is not the name of a collection"):
        parse_name(text)


@given(st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)))  # noqa: DTZ001 - texts without a zone are UTC
def test_every_time_can_be_written_with_the_characters_that_clients_allow(moment: datetime) -> None:
    text = moment.strftime("%Y-%m-%dT%H-%M-%S")

    assert OF_ODA_API.fullmatch(text)
    assert AsOf.parse(text).begin == moment.replace(tzinfo=UTC, microsecond=0).timestamp()


@pytest.mark.parametrize(
    ("prefix", "scope"),
    [
        ("", EVERYTHING),
        ("/mmoda/dispatch-data", EVERYTHING),
        ("/as-of/2026-03-01", Scope(DAY)),
        ("/as-of/2026-03-01/only", Scope(DAY, only=True)),
        ("/in/my-paper", Scope(collection="my-paper")),
        ("/in/only", Scope(collection="only")),
        ("/in/as-of/as-of/2026-03-01", Scope(DAY, collection="as-of")),
        ("/as-of/2026-03-01/in/my-paper", Scope(DAY, collection="my-paper")),
        ("/as-of/2026-03-01/only/in/my-paper", Scope(DAY, only=True, collection="my-paper")),
        ("/in/my-paper/as-of/2026-03-01/only", Scope(DAY, only=True, collection="my-paper")),
        ("/as-of/2026-03-01/dispatch-data", Scope(DAY)),
        ("/mmoda/dispatch-data/as-of/2026-03-01", Scope(DAY)),
    ],
)
@pytest.mark.parametrize(
    ("path", "kind"),
    [("/run_analysis", Kind.ANALYSIS), ("/api/meta-data", Kind.DESCRIPTION), ("/download_products", Kind.RELAY)],
)
def test_prefixes_are_read_in_any_order(prefix: str, scope: Scope, path: str, kind: Kind) -> None:
    assert find(prefix + path) == Route(kind, prefix, path, scope)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/as-of/2026-03-01", Route(Kind.RELAY, "/as-of/2026-03-01", "/", Scope(DAY))),
        ("/as-of/2026-03-01/", Route(Kind.RELAY, "/as-of/2026-03-01", "/", Scope(DAY))),
        ("/as-of/2026-03-01/a/b", Route(Kind.RELAY, "/as-of/2026-03-01", "/a/b", Scope(DAY))),
        ("/d/dispatch-data/in/x/tap/y", Route(Kind.RELAY, "/d/dispatch-data/in/x", "/tap/y", Scope(collection="x"))),
        ("/tap/in/x", Route(Kind.RELAY, "", "/tap/in/x")),
    ],
)
def test_prefixes_are_removed_from_other_routes(path: str, route: Route) -> None:
    assert find(path) == route


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/as-of/run_analysis", "'' is not a date"),
        ("/as-of/only/run_analysis", "'only' is not a date"),
        ("/as-of/tomorrow/run_analysis", "'tomorrow' is not a date"),
        ("/in/run_analysis", "'' is not the name"),
        ("/in/a.b/run_analysis", "'a.b' is not the name"),
        ("/in/a/in/b/run_analysis", "/in/ twice"),
        ("/as-of/2026-03-01/as-of/2026-03-01/run_analysis", "/as-of/ twice"),
        ("/AS-OF/2026-03-01/run_analysis", "the path has /AS-OF/; write /as-of/"),
        ("/as-of/2026-03-01/Only/run_analysis", "the path has /Only/; write /only/"),
        ("/staging/In/my-paper/run_analysis", "the path has /In/; write /in/"),
        ("/as-of/2030-01-01/run_analysis", "'2030-01-01' is in the future: it is 2026-06-15T12:00:00Z"),
        ("/as-of/2026-06-16/run_analysis", "in the future"),
        ("/as-of/2026-06-15T12-01/run_analysis", "in the future"),
    ],
)
def test_a_prefix_that_is_not_valid_is_an_error_of_its_route(path: str, message: str) -> None:
    route = find(path)

    assert route.kind is Kind.ANALYSIS
    for _ in range(2):
        with pytest.raises(ScopeError, match=message):
            route.valid_scope(NOON)


@pytest.mark.parametrize("path", ["/as-of/2026-06-15/run_analysis", "/as-of/2026-06-15T12-00/run_analysis"])
def test_today_is_not_in_the_future(path: str) -> None:
    assert find(path).valid_scope(NOON).as_of is not None


@pytest.mark.parametrize("path", ["/in/x/-/status", "/as-of/2026-03-01/-/", "/in/a%2Fb/run_analysis"])
def test_pages_and_encoded_slashes_are_refused_behind_a_prefix(path: str) -> None:
    with pytest.raises(BadQueryError):
        find(path)
