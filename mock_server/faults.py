"""Applies the fault of a scenario to a response or its connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mock_server.scenarios import Fault

_HTML: Final = "<!doctype html>\n<html lang=en>\n<title>{title}</title>\n<h1>{title}</h1>\n"
_REASONS: Final = {502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Time-out"}
_PIECES: Final = 16
# The job_id is in the last few kilobytes of a response, after its data products.
_TAIL: Final = 64 * 1024


async def respond_with_fault(
    fault: Fault,
    request: web.Request,
    job_id: str,
    respond: Callable[[], Awaitable[web.Response]],
    sleep: Callable[[float], Awaitable[None]],
) -> web.StreamResponse:
    """Respond to a request that a fault strikes.

    Parameters
    ----------
    fault
        Of any kind but `expire-token`, which is handled where tokens are read.
    request
        The request.
    job_id
        The job_id in the request.
    respond
        Returns the response without the fault.
    sleep
        Waits for a number of seconds.
    """
    if fault.kind == "hang":
        await sleep(fault.seconds)
        _close_connection(request)
    replacement = _replacement(fault, request)
    if replacement is not None:
        return replacement
    response = await respond()
    body = response.body if isinstance(response.body, bytes) else b""
    match fault.kind:
        case "change-job-id":
            head, tail = body[:-_TAIL], body[-_TAIL:]
            response.body = head + tail.replace(job_id.encode(), job_id[::-1].encode())
        case "recalibrate":
            from mock_server.recalibration import recalibrated  # numpy is imported only if it is needed

            response.body = recalibrated(body, fault.factor)
        case "cut-json":
            response.body = body[: len(body) // 2]
        case _:
            return await _in_pieces(fault, request, response, body, sleep)
    return response


def _replacement(fault: Fault, request: web.Request) -> web.Response | None:
    """Return the response if the fault keeps the request from the dispatcher, otherwise None."""
    match fault.kind:
        case "status":
            return _page(_REASONS.get(fault.status, "Error"), fault.status)
        case "html":
            return _page("Temporarily under maintenance", 200)
        case "redirect":
            return web.Response(status=fault.status, headers={"Location": str(request.url)})
        case "hang":
            return web.Response()  # never sent: the connection is closed
    return None


async def _in_pieces(
    fault: Fault, request: web.Request, whole: web.Response, body: bytes, sleep: Callable[[float], Awaitable[None]]
) -> web.StreamResponse:
    """Announce the whole body and send it in pieces with pauses, only half of them for `cut-connection`."""
    stream = web.StreamResponse(status=whole.status)
    stream.content_type = whole.content_type
    stream.content_length = len(body)
    await stream.prepare(request)
    size = max(1, -(-len(body) // _PIECES))
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    for piece in pieces[: len(pieces) // 2] if fault.kind == "cut-connection" else pieces:
        await stream.write(piece)
        await sleep(fault.seconds)
    if fault.kind == "cut-connection":
        _close_connection(request)
    return stream


def _close_connection(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


def _page(title: str, status: int) -> web.Response:
    return web.Response(status=status, text=_HTML.format(title=title), content_type="text/html")
