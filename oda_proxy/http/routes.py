"""The dispatcher's routes: where a path leads, whichever prefix it stands under.

Deployments mount the dispatcher under a prefix (`/mmoda/dispatch-data`), and clients are given the proxy's address with
one or without. A path is read by its segments, decoded; what a server further on might read as another path (`..`,
an encoded slash) is refused, not repaired.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import quote, unquote

from oda_proxy.errors import BadQueryError, RouteClosedError

MOUNT = "dispatch-data"
"""The last segment under which public sites mount a dispatcher."""

_INSTRUMENTS = "api/instr-list"
_DESCRIPTIONS = frozenset({_INSTRUMENTS, "instr-list", "api/meta-data", "meta-data", "api/par-names"})

_FILES = "api/v1.0/oda/product"
"""Below it lies any file of the server."""

CLOSED_ROUTES = (_FILES, "reload-plugin", "free-up-space", "call_back", "load_frontend_fits_file_url")
"""Routes that read or change what belongs to the server and ask for no token, or fetch any address."""

UNSAFE_ROUTES = frozenset(
    {
        "call_back",
        "delete_product_to_gallery",
        "free-up-space",
        "load_frontend_fits_file_url",  # fetches what it is told to
        "oauth_access_token_request",  # takes a code that is good once
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
"""Routes that change something, give out a secret or start work, many of them with GET: relayed once, never kept."""

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
"""Routes that only tell what is so, and are relayed."""

_PAGES = ("api/v1.0/oda/get_js9_plot", _FILES, "js9", "swaggerui", "tap", "test_js9")
"""Others that only tell, with all that lies below; found only right below the mount, for such names are anybody's."""


class Kind(Enum):
    """What is done with a request for a route."""

    ANALYSIS = auto()
    INSTRUMENTS = auto()
    DESCRIPTION = auto()
    RELAY = auto()


@dataclass(frozen=True, slots=True)
class Route:
    """One place of the dispatcher: `prefix` is the client's, `path` what the dispatcher calls it, both encoded."""

    kind: Kind
    prefix: str
    path: str


def find(path: str, *, open_routes: frozenset[str] = frozenset()) -> Route:
    """Say where the encoded `path` of a request leads.

    Raises RouteClosedError for a closed route that is not among `open_routes`, and BadQueryError for a path that two
    servers might read differently.
    """
    segments = [unquote(segment, errors="surrogateescape") for segment in path.split("/") if segment]
    if segments and path.endswith("/"):
        segments.append("")  # another path for the dispatcher: it answers /run_analysis and not /run_analysis/
    for segment in segments:
        if segment in {".", ".."} or any(character in segment for character in "/\\;") or not segment.isprintable():
            raise BadQueryError(f"the path {path!r} is ambiguous; ask for it without dots and encoded separators")
    _refuse_closed(segments, open_routes)
    at, kind = _locate(segments)
    return Route(kind, prefix=_encoded(segments[:at]), path=_encoded(segments[at:]) or "/")


def has_effects(path: str) -> bool:
    """Tell whether a request for a route's `path` changes something: true unless the route is known to tell only."""
    name = path.removeprefix("/")
    if not name or name in _DESCRIPTIONS or name in _SAFE_ROUTES:
        return False
    return not any(f"{name}/".startswith(f"{page}/") for page in _PAGES)


def _refuse_closed(segments: list[str], open_routes: frozenset[str]) -> None:
    """Refuse a closed route under any prefix, in any case, however often it is encoded."""
    plain = f"/{'/'.join(_decoded(segment) for segment in segments)}/".casefold()
    for route in CLOSED_ROUTES:
        if route not in open_routes and f"/{route}/" in plain:
            raise RouteClosedError(route)


def _decoded(segment: str) -> str:
    """Decode a segment until nothing changes: each round makes it shorter."""
    while (shorter := unquote(segment, errors="surrogateescape")) != segment:
        segment = shorter
    return segment


def _locate(segments: list[str]) -> tuple[int, Kind]:
    """Find where the prefix ends and the dispatcher's own path begins."""
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


def _encoded(segments: list[str]) -> str:
    """Write segments as a path that begins with a slash, or nothing where there are none."""
    return "".join(f"/{quote(segment, safe=_UNRESERVED, errors='surrogateescape')}" for segment in segments)


_UNRESERVED = "-._~!$&'()*+,=:@"
"""What RFC 3986 lets stand in a segment unencoded, less the semicolon, which some servers split at."""
