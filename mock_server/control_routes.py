"""The mock's own routes below `/-/`, with which people and tests control it (docs/mock.md)."""

from __future__ import annotations

import ipaddress
import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from aiohttp import web

from mock_server.control import MAX_DESCRIPTION, ControlError
from mock_server.control_page import HEADERS, STYLE_SHEET, body_of_form, control_page, style_sheet
from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mock_server.control import Control

OWN_ROUTES: Final = "/-/"
_BODY_LIMIT: Final = 2**16
_INSTRUMENTS: Final = "instruments"
_OWN_SITE: Final = ("same-origin", "none")
_FORM: Final = "application/x-www-form-urlencoded"
_PROBLEM: Final = "application/problem+json"
_PROBLEM_TYPE: Final = "urn:oda-proxy:mock-control"
"""Distinguishes the errors of a mock from those of a proxy."""


def own_route(path: str) -> str | None:
    """Return what follows `/-/` in a path, or None if it is a route of the dispatcher or the page `status`."""
    _, found, rest = path.partition(OWN_ROUTES)
    return rest if found and rest != "status" else None


async def control(control: Control, request: web.Request, route: str, instruments: list[str]) -> web.Response:
    """Respond to a request for one of the mock's own routes; errors are problems (RFC 9457).

    A form of the page leads back to the page. `instruments` are named on the page.
    """
    # Browsers name the origin of each form; other programs send JSON, which pages of other sites cannot.
    is_form = request.method == "POST" and request.content_type == _FORM and "Origin" in request.headers
    try:
        _check_host(request)
        match request.method:
            case "GET" | "HEAD":
                return _readable(control, route, instruments)
            case "POST":
                _check_origin(request)
                limit = MAX_DESCRIPTION if route == _INSTRUMENTS else _BODY_LIMIT
                body = body_of_form(await _form(request)) if is_form else await _body(request, limit)
                response = _json(_change(control, route, body))
                return _back_to_the_page(route) if is_form else response
    except (UsageError, ControlError) as error:
        status = error.status if isinstance(error, ControlError) else 400
        if is_form:
            return _page(control_page(control, instruments, root=_root(route), problem=str(error)), status)
        return _problem(status, str(error))
    return _problem(405, f"{request.method} is not supported: use GET or POST")


def _readable(control: Control, route: str, instruments: list[str]) -> web.Response:
    if not route:
        return _page(control_page(control, instruments))
    if route == STYLE_SHEET:
        return web.Response(text=style_sheet(), content_type="text/css", headers=HEADERS)
    return _json(_read(control, route))


def _read(control: Control, route: str) -> dict[str, Any]:
    match route.split("/"):
        case ["jobs"]:
            return control.list_jobs()
        case ["jobs", name]:
            return control.job(name)
        case ["requests"]:
            return control.list_requests()
        case ["faults"]:
            return control.list_faults()
        case ["instruments"]:
            return control.list_instruments()
    raise _not_found(route)


def _change(control: Control, route: str, body: dict[str, Any]) -> dict[str, Any]:
    match route.split("/"):
        case ["jobs"]:
            _check_members(body, required="hold")
            return control.hold(body["hold"])
        case ["jobs", name]:
            _check_members(body, required="state", optional="message")
            return control.set_state(name, body["state"], body.get("message", ""))
        case ["faults"]:
            return control.add_fault(body)
        case ["faults", number]:
            _check_members(body, required="active")
            return control.switch_fault(number, body["active"])
        case ["instruments"]:
            return control.describe(body)
        case ["reset"]:
            _check_members(body)
            return control.reset()
    raise _not_found(route)


def _not_found(route: str) -> ControlError:
    return ControlError(f"the mock has no page /-/{route[:40]}: see docs/mock.md", 404)


def _check_members(body: Mapping[str, Any], required: str = "", optional: str = "") -> None:
    if required and required not in body:
        raise ControlError(f"{required!r} is missing in the JSON object of the request")
    if unknown := sorted(set(body) - {required, optional}):
        raise ControlError(f"there is no {unknown[0][:40]!r}: the JSON object can have {required or 'no members'}")


def _check_host(request: web.Request) -> None:
    """Refuse requests for a name of another site, which may resolve to this machine (DNS rebinding).

    No other site is called by an address, by a name without a dot, or by one below `localhost` (RFC 6761).
    """
    try:
        name = urlsplit(f"//{request.host}").hostname or ""
    except ValueError:  # brackets in the wrong places
        name = request.host
    if "." in name and not name.endswith(".localhost") and not _is_address(name):
        raise ControlError(f"the mock does not answer as {name[:60]!r} here: use its address, or localhost", 421)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _check_origin(request: web.Request) -> None:
    """Refuse changes that a page of another site requests; programs that are not browsers send neither header."""
    origin = request.headers.get("Origin")
    is_own = origin is None or urlsplit(origin).netloc == request.host
    if not is_own or request.headers.get("Sec-Fetch-Site", "none") not in _OWN_SITE:
        raise ControlError("a page of another site must not change the mock", 403)


def _back_to_the_page(route: str) -> web.Response:
    return web.Response(status=303, headers={"Location": _root(route), "Cache-Control": "no-store"})


def _root(route: str) -> str:
    """Return the relative path from a route to the page."""
    return "../" * route.count("/") or "./"


def _page(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", headers=HEADERS)


async def _form(request: web.Request) -> dict[str, str]:
    if (request.content_length or 0) > _BODY_LIMIT:
        raise ControlError(f"the body is larger than {_BODY_LIMIT} bytes", 413)
    return {name: value for name, value in (await request.post()).items() if isinstance(value, str)}


async def _body(request: web.Request, limit: int) -> dict[str, Any]:
    """Read the JSON object of a request; an empty body is an empty object."""
    if (request.content_length or 0) > limit:
        raise ControlError(f"the body is larger than {limit} bytes", 413)
    content = await request.read()
    if len(content) > limit:
        raise ControlError(f"the body is larger than {limit} bytes", 413)
    if not content:
        return {}
    if request.content_type != "application/json":
        raise ControlError("the body should be JSON: send Content-Type: application/json", 415)
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ControlError(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise ControlError("the body should be a JSON object")
    return body


def _json(value: Any) -> web.Response:
    return web.json_response(value, headers={"Cache-Control": "no-store"})


def _problem(status: int, detail: str) -> web.Response:
    problem = {"type": _PROBLEM_TYPE, "title": detail, "status": status}
    return web.json_response(problem, status=status, content_type=_PROBLEM, headers={"Cache-Control": "no-store"})
