"""The prefixes of a path select a past time and a collection."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.errors import BadQueryError, RouteClosedError
from oda_proxy.http.routes import Kind, Route, find
from oda_proxy.http.scope import EVERYTHING, AsOf, Scope, ScopeError, parse_name, time_text, time_texts

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
        ("20260301123005000001", "2026-03-01T12:30:05.000001Z", "2026-03-01T12:30:05.000001Z"),
        ("2026-03-01T12:30:05.000001Z", "2026-03-01T12:30:05.000001Z", "2026-03-01T12:30:05.000001Z"),
        ("2026-03-01t12:30z", "2026-03-01T12:30:00Z", "2026-03-01T12:30:59.999999Z"),
        ("2026-02", "2026-02-01T00:00:00Z", "2026-02-28T23:59:59.999999Z"),
        ("2024-02", "2024-02-01T00:00:00Z", "2024-02-29T23:59:59.999999Z"),
        ("1969-12-31", "1969-12-31T00:00:00Z", "1969-12-31T23:59:59.999999Z"),
        ("9999-12-31", "9999-12-31T00:00:00Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_a_time_is_the_last_moment_of_what_is_named(text: str, begin: str, last: str) -> None:
    as_of = AsOf.parse(text)

    assert as_of.begin == _seconds(begin)
    assert as_of.time == pytest.approx(_seconds(last), abs=1e-4, rel=0)


@pytest.mark.parametrize("text", ["0001-01-01", "1969-12-31", "2026-03-01", "2514-06-01", "9999-12-30"])
def test_no_moment_lies_between_two_days_of_any_century(text: str) -> None:
    """Near the year 2514, floats begin to differ by more than a microsecond."""
    day = AsOf.parse(text)

    assert day.begin < day.time < day.begin + 86400
    assert math.nextafter(day.time, math.inf) == day.begin + 86400
    assert math.nextafter(AsOf.of_second(day.begin, text).time, math.inf) == day.begin + 1


@pytest.mark.parametrize(
    "text",
    [
        *("", "yesterday", "2026-13-01", "2026-02-30", "2026-3-1", "2026-03-01T25-00", "2026-03-01T12-30-60"),
        *("2026-0301", "2026-03-01T12:30+01:00", "2026-03-01T12", "٢٠٢٦-03-01", "0000-01-01", "2026-03-01\n"),
        *("2026", "202603", "2026-00", "2026-13", "2016-12-31T23:59:60Z", "2026-03-01T12:30-00", "2026-03-01T12-30:00"),
        *(" 2026-03-01", "2026-03-01 12:30", "2026-W09-7", "2026-060", "61100", "MJD61100", "61100.5", "1.7e9", "now"),
        *(
            "2026-03-01%2012:30",
            "2026-03-01T12%3A30",
            "+2026-03-01",
            "-2026-03-01",
            "02026-03-01",
            "2026-03-01T12:30.5",
        ),
        "x" * 4000,
    ],
)
def test_another_text_is_no_date(text: str) -> None:
    with pytest.raises(ScopeError, match="is not a date: write one such as 2026-03-01") as caught:
        AsOf.parse(text)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


@given(st.lists(st.floats(0, 4e9), min_size=1, max_size=4, unique_by=math.floor), st.booleans())
def test_a_time_that_is_written_names_the_moment_and_no_other_version(times: list[float], is_compact: bool) -> None:
    times = sorted({one // 1 + number * 2.5e-6 + one % 1 * 1e-9 for one in times for number in range(3)})
    for time, text in zip(times, time_texts(times, is_compact=is_compact), strict=True):
        as_of = AsOf.parse(text)

        assert max(one for one in times if one <= as_of.time) == time


@pytest.mark.parametrize(
    ("text", "has_offset"),
    [
        ("2026-03-01T12:30+01:00", True),
        ("2026-03-01T12:30:05-0100", True),
        ("2026-03-01T12:30-01:00", True),
        ("2026-03-01T12-30-60", False),
        ("2026-1301", False),
    ],
)
def test_a_time_with_an_offset_is_refused_with_that_reason(text: str, *, has_offset: bool) -> None:
    with pytest.raises(ScopeError) as caught:
        AsOf.parse(text)
    assert ("(UTC), without an offset, such as" in str(caught.value)) is has_offset


@pytest.mark.parametrize(
    ("path", "begin"),
    [
        ("/as-of/2026-03-01T12%3A30/run_analysis", "2026-03-01T12:30:00Z"),
        ("/as-of/2026-03-01T12:30:05Z/run_analysis", "2026-03-01T12:30:05Z"),
        ("/as-of/2026-03/only/run_analysis", "2026-03-01T00:00:00Z"),
    ],
)
def test_colons_may_be_encoded(path: str, begin: str) -> None:
    as_of = find(path).valid_scope(NOON).as_of

    assert as_of is not None
    assert as_of.begin == _seconds(begin)


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
        ("/as-of/2026-03-01/in/a/only/run_analysis", "/only belongs directly after a date"),
        ("/in/a/only/run_analysis", "/only belongs directly after a date"),
        ("/as-of/2026-03-01/only/only/run_analysis", "/only belongs directly after a date"),
        ("/in/a/p/as-of/2026-03-01/run_analysis", "the path has /as-of/ apart"),
        ("/p/as-of/2026-03-01/dispatch-data/In/a/api/meta-data/run_analysis", "the path has /In/ apart"),
        ("/as-of/2026-03-01/dispatch-data/only/run_analysis", "the path has /only/ apart"),
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


NAMES = ["only", "in", "as-of", "dispatch-data", "instr-list", "meta-data", "tap", "js9", "inspect-state", "2026-01-01"]
ROUTES = ["/run_analysis", "/api/instr-list", "/instr-list", "/api/meta-data", "/meta-data", "/inspect-state"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mount", ["", "/mmoda/dispatch-data", "/staging"])
def test_a_collection_may_be_named_like_a_route_or_a_prefix(name: str, mount: str) -> None:
    for route in ROUTES:
        found = find(f"{mount}/in/{name}{route}")
        assert (found.valid_scope(NOON), found.path) == (Scope(collection=name), route)


@pytest.mark.parametrize(
    "path", ["/in/api/run_analysis", "/in/api/instr-list", "/in/api/api/meta-data", "/in/reload-plugin/run_analysis"]
)
def test_no_collection_is_named_like_the_beginning_of_routes(path: str) -> None:
    with pytest.raises(ScopeError, match="is not the name of a collection"):
        find(path, open_routes=frozenset({"reload-plugin"})).valid_scope(NOON)


@pytest.mark.parametrize("name", ["reload-plugin", "free-up-space"])
def test_no_collection_opens_a_closed_route(name: str) -> None:
    with pytest.raises(RouteClosedError):
        find(f"/in/{name}/run_analysis")


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (1e12, "9999-12-31T23:59:59Z"),
        (math.inf, "9999-12-31T23:59:59Z"),
        (-1e12, "0001-01-01T00:00:00Z"),
        (math.nan, "0001-01-01T00:00:00Z"),
        (0.0, "1970-01-01T00:00:00Z"),
    ],
)
def test_a_time_that_is_no_date_is_shown_as_the_nearest(time: float, text: str) -> None:
    """`verify` names recordings with such times, and ended with a traceback."""
    assert time_text(time) == text
