"""A path leads to one place, whichever prefix it stands under."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.errors import BadQueryError, OdaProxyError, RouteClosedError
from oda_proxy.routes import Kind, Route, find


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
def test_what_belongs_to_the_server_is_closed_under_any_prefix(prefix: str, route: str) -> None:
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
def test_a_path_that_servers_read_differently_is_refused(path: str) -> None:
    with pytest.raises((BadQueryError, RouteClosedError)):
        find(path)


def test_a_route_that_is_opened_is_relayed() -> None:
    assert find("/p/call_back", opened=frozenset({"call_back"})).kind is Kind.RELAY


@given(st.text("/.%25eE_callbackrun;\\x", max_size=30))
def test_no_path_leads_to_a_closed_route(text: str) -> None:
    try:
        route = find(f"/{text}")
    except OdaProxyError:
        return
    assert "call_back" not in unquote(route.path).casefold().split("/")
