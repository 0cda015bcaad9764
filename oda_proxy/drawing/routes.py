"""The routes of pictures and files of products, below `/-/recordings/KEY/`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

from oda_proxy.access.roles import Action
from oda_proxy.drawing.file_names import safe_name
from oda_proxy.drawing.paste_lines import paste_lines
from oda_proxy.drawing.process import NotThereError, UnavailableError
from oda_proxy.drawing.tasks import CONTENT_TYPES, Kind, Task
from oda_proxy.query.cache_key import short_key
from oda_proxy.web.front_end import public_url
from oda_proxy.web.own_routes import VISITOR, OwnRoute
from oda_proxy.web.problems import problem_of
from oda_proxy.web.visible_recordings import KEY_PATTERN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oda_proxy.drawing.product_files import ProductFile, ProductFiles
    from oda_proxy.store.base import Entry
    from oda_proxy.web.own_routes import Respond

RECORDING: Final = f"/-/recordings/{KEY_PATTERN}"
_NUMBER: Final = "{number:[0-9]{1,6}}"
_UNIT: Final = "{unit:[0-9]{1,6}}"
_CHUNK: Final = 256 * 1024
_RETRY_AFTER: Final = 5
_SAFE: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of files whose content comes from elsewhere: a browser runs nothing in them."""


def routes(files: ProductFiles) -> Sequence[OwnRoute]:
    """Return the routes of pictures and files."""
    own = _ProductRoutes(files)

    def route(path: str, handler: Respond, summary: str) -> OwnRoute:
        return OwnRoute("GET", f"{RECORDING}{path}", Action.READ_RECORDINGS, handler, summary)

    return (
        route("/products", own.products, "the products of a recording: names, kinds, data units, columns and units"),
        route(f"/products/{_NUMBER}.png", own.picture, "a product as a picture"),
        route(f"/products/{_NUMBER}.fits", own.fits, "a product with arrays as a FITS file"),
        route("/products.zip", own.archive, "all products of a recording, each in its natural form"),
        route("/fixture.zip", own.fixture, "a recording as a folder of fixtures"),
        route(f"/header/{_NUMBER}.{_UNIT}", own.header, "the header of a data unit, as text"),
        route("/program.py", own.program, "lines of Python that request the recording through this server"),
    )


class _ProductRoutes:
    """Responds with pictures and files of the recordings that a visitor may see."""

    def __init__(self, files: ProductFiles) -> None:
        self._files = files

    async def products(self, request: web.Request) -> web.StreamResponse:
        """Respond with the summaries of all products, as JSON."""
        entry = await self._entry(request)
        try:
            found = await self._files.summaries(entry)
        except UnavailableError as error:
            return _unavailable(error)
        return web.json_response({"products": found}, headers={"Cache-Control": "no-store"})

    async def picture(self, request: web.Request) -> web.StreamResponse:
        """Respond with the picture of a product, or 304 where the client has it."""
        entry, number = await self._entry(request), int(request.match_info["number"])
        tag = await self._files.tag(entry, Task(Kind.PICTURE, number))
        headers = {**_SAFE, "Cache-Control": "private, no-cache", "ETag": f'"{tag}"'}
        if any(known.value in {tag, "*"} for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        try:
            content = await self._files.picture(entry, number)
        except UnavailableError as error:
            return _unavailable(error)
        return web.Response(body=content, content_type=CONTENT_TYPES[Kind.PICTURE], headers=headers)

    async def fits(self, request: web.Request) -> web.StreamResponse:
        """Respond with the FITS file of a product."""
        number = int(request.match_info["number"])
        return await self._download(request, Kind.FITS, f"-{number}.fits", number)

    async def archive(self, request: web.Request) -> web.StreamResponse:
        """Respond with all products in a ZIP file."""
        return await self._download(request, Kind.ARCHIVE, ".zip")

    async def fixture(self, request: web.Request) -> web.StreamResponse:
        """Respond with the fixture of the recording in a ZIP file."""
        return await self._download(request, Kind.FIXTURE, "-fixture.zip")

    async def header(self, request: web.Request) -> web.StreamResponse:
        """Respond with the header of a data unit."""
        number, unit = (int(request.match_info[name]) for name in ("number", "unit"))
        return await self._download(request, Kind.HEADER, "", number, unit)

    async def program(self, request: web.Request) -> web.StreamResponse:
        """Respond with a program that requests the recording."""
        entry = await self._entry(request)
        if entry.query is None:
            raise NotThereError("the query of the recording is not known")
        text = paste_lines(entry.query, public_url(request))
        return web.Response(text=text, headers={**_SAFE, "Cache-Control": "no-store"})

    async def _download(
        self, request: web.Request, kind: Kind, suffix: str, number: int = 0, unit: int = 0
    ) -> web.StreamResponse:
        """Respond with a file, which a browser saves if it has a suffix, and shows else."""
        entry = await self._entry(request)
        try:
            file = await self._files.file(entry, kind, number, unit)
        except UnavailableError as error:
            return _unavailable(error)
        return await _send(request, file, _file_name(entry, suffix) if suffix else "")

    async def _entry(self, request: web.Request) -> Entry:
        """Return the recording of a request. Raises RecordingNotFoundError, also for one that is not to be seen."""
        return await self._files.entry(request[VISITOR], request.match_info["key"])


async def _send(request: web.Request, file: ProductFile, name: str) -> web.StreamResponse:
    """Send a file in pieces; it is closed then."""
    response = web.StreamResponse(headers={**_SAFE, "Cache-Control": "private, no-store"})
    response.content_type, response.content_length = file.content_type, file.size
    if file.content_type.startswith("text/"):
        response.charset = "utf-8"
    if name:
        response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    with file.content:
        await response.prepare(request)
        if request.method != "HEAD":
            while piece := await asyncio.to_thread(file.content.read, _CHUNK):
                await response.write(piece)
        await response.write_eof()
    return response


def _unavailable(error: UnavailableError) -> web.Response:
    response = problem_of(error)
    response.headers["Retry-After"] = str(_RETRY_AFTER)
    return response


def _file_name(entry: Entry, suffix: str) -> str:
    """Return the name under which a browser saves a file."""
    query = entry.query
    names = [query.product_type, dict(query.parameters).get("src_name", ("",))[0]] if query else ["recording"]
    return f"{safe_name('-'.join(filter(None, [*names, short_key(entry.key)])))}{suffix}"
