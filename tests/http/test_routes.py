"""A path leads to one place, under any prefix."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.errors import BadQueryError, OdaProxyError, RouteClosedError, UpstreamUnreachableError
from oda_proxy.http import routes
from oda_proxy.http.message import Request
from oda_proxy.http.routes import Kind, Route, find, has_effects
from oda_proxy.upstream.relay import Relay

if TYPE_CHECKING:
    from oda_proxy.http.message import Reply


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/run_analysis", Route(Kind.ANALYSIS, "", "/run_analysis")),
        ("//run_analysis", Route(Kind.ANALYSIS, "", "/run_analysis")),
        ("/mmoda/dispatch-data/run_analysis", Route(Kind.ANALYSIS, "/mmoda/dispatch-data", "/run_analysis")),
        ("/any/prefix/api/par-names", Route(Kind.DESCRIPTION, "/any/prefix", "/api/par-names")),
        ("/api/instr-list", Route(Kind.INSTRUMENTS, "", "/api/instr-list")),
        ("/p/instr-list", Route(Kind.DESCRIPTION, "/p", "/instr-list")),
        ("/p/download_products", Route(Kind.RELAY, "/p", "/download_products")),
        ("/p/dispatch-data/tap/tables", Route(Kind.RELAY, "/p/dispatch-data", "/tap/tables")),
        ("/tap/tables", Route(Kind.RELAY, "", "/tap/tables")),
        ("/mmoda/dispatch-data/", Route(Kind.RELAY, "/mmoda/dispatch-data", "/")),
        ("/", Route(Kind.RELAY, "", "/")),
        ("/run_analysis/", Route(Kind.RELAY, "", "/run_analysis/")),  # the dispatcher has no such route
        ("/a%20b/run_analysis", Route(Kind.ANALYSIS, "/a%20b", "/run_analysis")),
    ],
)
def test_a_path_leads_to_a_route(path: str, route: Route) -> None:
    assert find(path) == route


CLOSED = [
    "api/v1.0/oda/product/conf.yaml",
    "reload-plugin/isgri",
    "free-up-space",
    "call_back",
    "load_frontend_fits_file_url",
]


@pytest.mark.parametrize("prefix", ["/", "//", "/mmoda/dispatch-data/", "/js9/"])
@pytest.mark.parametrize("route", CLOSED)
def test_closed_routes_are_refused_under_any_prefix(prefix: str, route: str) -> None:
    with pytest.raises(RouteClosedError, match="--open-route"):
        find(prefix + route)


@pytest.mark.parametrize(
    "path", ["/call%5Fback", "/call%255Fback", "/CALL_BACK", "/call_back/", "/reload-plugin", "/x/call_back/y"]
)
def test_another_spelling_does_not_open_a_route(path: str) -> None:
    with pytest.raises(RouteClosedError):
        find(path)


@pytest.mark.parametrize(
    "path", ["/a/../call_back", "/a/%2e%2e/run_analysis", "/a%2Fcall_back", "/a;b/run_analysis", "/a%00"]
)
def test_a_path_that_servers_interpret_differently_is_refused(path: str) -> None:
    with pytest.raises((BadQueryError, RouteClosedError)):
        find(path)


def test_a_route_that_is_opened_is_relayed() -> None:
    assert find("/p/call_back", open_routes=frozenset({"call_back"})).kind is Kind.RELAY


@given(st.text("/.%25eE_callbackrun;\\x", max_size=30))
def test_no_path_leads_to_a_closed_route(text: str) -> None:
    try:
        route = find(f"/{text}")
    except OdaProxyError:
        return
    assert "call_back" not in unquote(route.path).casefold().split("/")


TELLING = [
    "/",
    "/api/instr-list",
    "/api/meta-data",
    "/api/par-names",
    "/api/parameters",
    "/api/v1.0/oda/get_js9_plot",
    "/api/v1.0/oda/product/a/b.fits",
    "/check_satus",
    "/download_file",
    "/download_products",
    "/get_all_astro_entities",
    "/get_all_revs",
    "/get_astro_entity_info_by_source_name",
    "/get_data_product_list_by_source_name",
    "/get_data_product_list_with_conditions",
    "/get_list_terms",
    "/get_observation_attachments",
    "/get_parents_term",
    "/get_revnum",
    "/inspect-state",
    "/inspect-user-state",
    "/instr-list",
    "/js9/js9.js",
    "/meta-data",
    "/meta-data-src",
    "/resolve-job-url",
    "/resolve_name",
    "/swagger.json",
    "/swaggerui/logo.png",
    "/tap/async",
    "/tap/sync",
    "/tap/tables",
    "/test_js9",
    "/test_mock",
]
ACTING = [
    "/call_back",
    "/delete_product_to_gallery",
    "/free-up-space",
    "/load_frontend_fits_file_url",
    "/oauth_access_token_request",
    "/post_astro_entity_to_gallery",
    "/post_observation_to_gallery",
    "/post_product_to_gallery",
    "/post_revolution_processing_log_to_gallery",
    "/push-renku-branch",
    "/refresh_token",
    "/reload-plugin/isgri",
    "/report_incident",
    "/run_analysis",
    "/update_token_email_options",
]
"""Every route of dispatcher 1.3.6, by whether a second request has a further effect."""


@pytest.mark.parametrize("path", TELLING)
def test_routes_that_only_read_have_no_effects(path: str) -> None:
    assert not has_effects(path)


@pytest.mark.parametrize("path", ACTING)
def test_unsafe_routes_have_effects_under_any_prefix(path: str) -> None:
    everything = frozenset(routes.CLOSED_ROUTES)

    assert has_effects(path)
    assert has_effects(find(f"/p{path}", open_routes=everything).path)
    assert has_effects(find(f"/p/dispatch-data{path}", open_routes=everything).path)


def test_the_list_of_unsafe_routes_is_complete() -> None:
    assert {path.split("/")[1] for path in ACTING} == routes.UNSAFE_ROUTES


@pytest.mark.parametrize("path", ["/unknown", "/tapestry", "/run_analysis/", "/meta-data/", "/p/js9/js9.js", "//"])
def test_an_unknown_route_has_effects(path: str) -> None:
    assert has_effects(path)


@dataclass
class Away:
    """An unreachable upstream that records its requests."""

    asked: list[Request] = field(default_factory=list)
    url: str = "http://there"

    async def send(self, ask: Request) -> Reply:
        self.asked.append(ask)
        raise UpstreamUnreachableError(self.url, "gone")


@pytest.mark.parametrize(
    ("path", "once"), [("/refresh_token", True), ("/run_analysis", True), ("/api/meta-data", False)]
)
async def test_unsafe_routes_are_forwarded_at_most_once(path: str, once: bool) -> None:
    upstream = Away()

    with pytest.raises(UpstreamUnreachableError):
        await Relay(upstream).send(Request("GET", path), "http://here", "bypass")

    assert [ask.at_most_once for ask in upstream.asked] == [once]


async def test_a_request_to_be_sent_at_most_once_is_forwarded_so() -> None:
    upstream = Away()

    with pytest.raises(UpstreamUnreachableError):
        await Relay(upstream).send(Request("GET", "/api/meta-data", at_most_once=True), "http://here", "bypass")

    assert upstream.asked[0].at_most_once
