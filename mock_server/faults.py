"""What goes wrong with a request, as a scenario has it: done to the connection or to the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mock_server.scenarios import Fault

_HTML: Final = "<!doctype html>\n<html lang=en>\n<title>{title}</title>\n<h1>{title}</h1>\n"
_REASONS: Final = {502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Time-out"}
_PIECES: Final = 16
# The job_id stands in the last few kilobytes of an answer, behind its data products.
_TAIL: Final = 64 * 1024


async def answer_with_fault(
    fault: Fault,
    request: web.Request,
    job_id: str,
    answer: Callable[[], Awaitable[web.Response]],
    sleep: Callable[[float], Awaitable[None]],
) -> web.StreamResponse:
    """Answer a request that a fault strikes.

    Parameters
    ----------
    fault
        Of any kind but `expire-token`, which is for the reader of tokens.
    request
        As it came.
    job_id
        That the request names.
    answer
        Makes the answer that would be given without the fault.
    sleep
        Waits for a number of seconds.
    """
    if fault.do == "hang":
        await sleep(fault.seconds)
        _lose_connection(request)
    instead = _answer_instead(fault, request)
    if instead is not None:
        return instead
    whole = await answer()
    body = whole.body if isinstance(whole.body, bytes) else b""
    match fault.do:
        case "change-job-id":
            head, tail = body[:-_TAIL], body[-_TAIL:]
            whole.body = head + tail.replace(job_id.encode(), job_id[::-1].encode())
        case "cut-json":
            whole.body = body[: len(body) // 2]
        case _:
            return await _in_pieces(fault, request, whole, body, sleep)
    return whole


def _answer_instead(fault: Fault, request: web.Request) -> web.Response | None:
    """Make the answer of a fault that lets the request reach no dispatcher."""
    match fault.do:
        case "status":
            return _page(_REASONS.get(fault.status, "Error"), fault.status)
        case "html":
            return _page("Temporarily under maintenance", 200)
        case "redirect":
            return web.Response(status=fault.status, headers={"Location": str(request.url)})
        case "hang":
            return web.Response()  # to nobody: the connection is lost
    return None


async def _in_pieces(
    fault: Fault, request: web.Request, whole: web.Response, body: bytes, sleep: Callable[[float], Awaitable[None]]
) -> web.StreamResponse:
    """Announce the whole body and send it in pieces with pauses, only half of them for `cut-connection`."""
    response = web.StreamResponse(status=whole.status)
    response.content_type = whole.content_type
    response.content_length = len(body)
    await response.prepare(request)
    size = max(1, -(-len(body) // _PIECES))
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    for piece in pieces[: len(pieces) // 2] if fault.do == "cut-connection" else pieces:
        await response.write(piece)
        await sleep(fault.seconds)
    if fault.do == "cut-connection":
        _lose_connection(request)
    return response


def _lose_connection(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


def _page(title: str, status: int) -> web.Response:
    return web.Response(status=status, text=_HTML.format(title=title), content_type="text/html")
