"""The routes of the dispatcher, under any prefix.

Deployments mount the dispatcher under a prefix (`/mmoda/dispatch-data`), and clients use the proxy's address with or
without one. Paths are matched by their decoded segments; a path that another server could interpret differently (`..`,
an encoded slash) is refused, not normalised.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import lru_cache
from urllib.parse import quote, unquote

from oda_proxy.errors import BadQueryError, RouteClosedError
from oda_proxy.http.scope import EVERYTHING, Scope, ScopeError, read_scope, scope_length

MOUNT = "dispatch-data"
"""The last segment under which public sites mount a dispatcher."""

_INSTRUMENTS = "api/instr-list"
_DESCRIPTIONS = frozenset({_INSTRUMENTS, "instr-list", "api/meta-data", "meta-data", "api/par-names"})

_FILES = "api/v1.0/oda/product"
"""Below it, the dispatcher serves any file of its server."""

CLOSED_ROUTES = (_FILES, "reload-plugin", "free-up-space", "call_back", "load_frontend_fits_file_url")
"""Routes that read or change the server without a token, or fetch any address."""

UNSAFE_ROUTES = frozenset(
    {
        "call_back",
        "delete_product_to_gallery",
        "free-up-space",
        "load_frontend_fits_file_url",  # fetches any address
        "oauth_access_token_request",  # consumes a single-use code
        "post_astro_entity_to_gallery",
        "post_observation_to_gallery",
        "post_product_to_gallery",
        "post_revolution_processing_log_to_gallery",
        "push-renku-branch",
        "refresh_token",
        "reload-plugin",
        "report_incident",
        "run_analysis",  # each `new` and `ready` runs a query
        "update_token_email_options",
    }
)
"""Routes that change something, return a secret or start work, many with GET: forwarded at most once, never stored."""

_SAFE_ROUTES = frozenset(
    {
        "api/parameters",
        "check_satus",
        "download_file",
        "download_products",
        "get_all_astro_entities",
        "get_all_revs",
        "get_astro_entity_info_by_source_name",
        "get_data_product_list_by_source_name",
        "get_data_product_list_with_conditions",
        "get_list_terms",
        "get_observation_attachments",
        "get_parents_term",
        "get_revnum",
        "inspect-state",
        "inspect-user-state",
        "meta-data-src",
        "resolve-job-url",
        "resolve_name",
        "swagger.json",
        "test_mock",
    }
)
"""Routes that only read, and are forwarded."""

_PAGES = ("api/v1.0/oda/get_js9_plot", _FILES, "js9", "swaggerui", "tap", "test_js9")
"""Further routes that only read, with everything below; matched only directly below the mount: the names are common."""


ALL_ROUTES = frozenset({*_DESCRIPTIONS, *_SAFE_ROUTES, *UNSAFE_ROUTES, *_PAGES, *CLOSED_ROUTES})
"""All routes of a dispatcher that are known."""


class Kind(Enum):
    """How a request for a route is handled."""

    ANALYSIS = auto()
    INSTRUMENTS = auto()
    DESCRIPTION = auto()
    RELAY = auto()


OWN = "-"
"""The first segment of the proxy's own routes, which no dispatcher has."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the dispatcher: `prefix` is part of the proxy's address, `path` is the dispatcher's, both encoded."""

    kind: Kind
    prefix: str
    path: str
    scope: Scope = EVERYTHING
    """What the prefix selects."""
    scope_error: str = ""
    """Why the prefix is not valid, for an answer in the form that clients of the route read."""

    def valid_scope(self, now: float) -> Scope:
        """Return the scope; raises ScopeError where it is not valid at `now`, in s since 1970 (UTC)."""
        if self.scope_error:
            raise ScopeError(self.scope_error)
        if self.scope.as_of is not None:
            self.scope.as_of.check(now)
        return self.scope


def find(path: str, *, open_routes: frozenset[str] = frozenset()) -> Route:
    """Return the route of the encoded `path` of a request.

    Raises RouteClosedError for a closed route that is not among `open_routes`, and BadQueryError for a path that two
    servers could interpret differently.
    """
    return (_find_plain if _PLAIN.fullmatch(path) else _find)(path, open_routes)


_PLAIN = re.compile(r"(?:/[\w.~-]{0,40}){1,8}", re.ASCII)
"""Paths of which the routes are memoised: they need no decoding, and are too short for a token."""


def _find(path: str, open_routes: frozenset[str]) -> Route:
    segments = [unquote(segment, errors="surrogateescape") for segment in path.split("/") if segment]
    if segments and path.endswith("/"):
        segments.append("")  # another path for the dispatcher, which has /run_analysis and not /run_analysis/
    for segment in segments:
        if segment in {".", ".."} or any(character in segment for character in "/\\;") or not segment.isprintable():
            raise BadQueryError(f"the path {path!r} is ambiguous; write it without dot segments and encoded separators")
    at, kind = _locate(segments)
    begin, end = _scope_range(segments, at)
    following, at = segments[end:at], max(at, end)
    if segments[:1] == [OWN] or (begin < end and segments[at : at + 1] == [OWN]):
        raise BadQueryError(f"/{OWN}/ begins the routes of the proxy itself, and is written with one slash before it")
    _refuse_closed(segments, open_routes)
    route = Route(kind, prefix=_encoded(segments[:at]), path=_encoded(segments[at:]) or "/")
    try:
        return replace(route, scope=read_scope(segments[begin:end], following))
    except ScopeError as error:
        return replace(route, scope_error=str(error))


_find_plain = lru_cache(maxsize=1024)(_find)


def is_route(path: str) -> bool:
    """Return whether a route's `path` is one of the dispatcher; other paths below it lead to services beside it."""
    name = path.removeprefix("/")
    if not name or name in _DESCRIPTIONS or name in _SAFE_ROUTES or name in UNSAFE_ROUTES:
        return True
    return any(f"{name}/".startswith(f"{page}/") for page in (*_PAGES, *CLOSED_ROUTES))


def has_effects(path: str) -> bool:
    """Return whether a request for a route's `path` may change something: true for unknown routes."""
    name = path.removeprefix("/")
    if not name or name in _DESCRIPTIONS or name in _SAFE_ROUTES:
        return False
    return not any(f"{name}/".startswith(f"{page}/") for page in _PAGES)


def is_closed(path: str) -> bool:
    """Return whether a route's `path` is closed unless the deployment opens it."""
    name = path.removeprefix("/").casefold()
    return any(f"{name}/".startswith(f"{route}/") for route in CLOSED_ROUTES)


def changes_descriptions(path: str) -> bool:
    """Return whether a request for a route's `path` may change the descriptions of instruments."""
    return f"{path}/".startswith("/reload-plugin/")


def _refuse_closed(segments: list[str], open_routes: frozenset[str]) -> None:
    """Refuse a closed route under any prefix, in any case, with any number of encodings."""
    plain = f"/{'/'.join(_decoded(segment) for segment in segments)}/".casefold()
    for route in CLOSED_ROUTES:
        if route not in open_routes and f"/{route}/" in plain:
            raise RouteClosedError(route)


def _decoded(segment: str) -> str:
    """Decode a segment until nothing changes; each round makes it shorter."""
    while (shorter := unquote(segment, errors="surrogateescape")) != segment:
        segment = shorter
    return segment


def _locate(segments: list[str]) -> tuple[int, Kind]:
    """Return how many segments are the prefix, and the kind of the rest."""
    for length in (2, 1):
        name = "/".join(segments[-length:])
        at = max(len(segments) - length, 0)
        if name == "run_analysis":
            return at, Kind.ANALYSIS
        if name == _INSTRUMENTS:
            return at, Kind.INSTRUMENTS
        if name in _DESCRIPTIONS:
            return at, Kind.DESCRIPTION
        if name in _SAFE_ROUTES or name in UNSAFE_ROUTES:
            return at, Kind.RELAY
    if MOUNT in segments:
        return segments.index(MOUNT) + 1, Kind.RELAY
    return 0, Kind.RELAY


def _scope_range(segments: list[str], at: int) -> tuple[int, int]:
    """Return where the prefixes of a scope begin and end: in the first `at` segments, or directly after them."""
    for begin in range(at + 1):
        if length := scope_length(segments[begin:at]):
            return begin, begin + length
    return at, at + scope_length(segments[at:])


def _encoded(segments: list[str]) -> str:
    """Return segments as an encoded path with a leading slash; empty if there are none."""
    return "".join(f"/{quote(segment, safe=_UNRESERVED, errors='surrogateescape')}" for segment in segments)


_UNRESERVED = "-._~!$&'()*+,=:@"
"""Characters that RFC 3986 allows in a segment, without the semicolon, at which some servers split."""
