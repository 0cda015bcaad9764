"""The HTTP API to import recordings: a zip file of fixtures, or of a capsule (docs/api.md)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from oda_proxy.access.roles import Action
from oda_proxy.errors import BadQueryError, OdaProxyError, StoreUnusableError
from oda_proxy.files.temporary import TemporaryFolder
from oda_proxy.files.trees import FolderTree
from oda_proxy.files.zip_extraction import NoSpaceError, extract
from oda_proxy.files.zip_members import ZipLimits
from oda_proxy.fixture.reading import Limits
from oda_proxy.handlers.imports import import_all, sources_in
from oda_proxy.web.change_log import note_changed
from oda_proxy.web.own_routes import OwnRoute
from oda_proxy.web.recording_api import json_response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from oda_proxy.query.descriptions import Descriptions
    from oda_proxy.store.base import Store

MAX_UPLOAD: Final = 1024 * 2**20
"""Bytes of a zip file."""
LIMITS: Final = ZipLimits()
MEDIA_TYPES: Final = frozenset({"application/zip", "application/octet-stream"})


class TooLargeError(OdaProxyError):
    """A body is larger than allowed."""

    http_status = 413
    detail = "too-large"


class WrongMediaTypeError(OdaProxyError):
    """A body is of another media type than the route takes."""

    http_status = 415
    detail = "media-type"


def routes(store: Store, descriptions: Descriptions, urls: Sequence[str]) -> Sequence[OwnRoute]:
    """Return the route; `urls` are those of the dispatcher, of which a capsule may be."""
    importing = asyncio.Lock()

    async def import_zip(request: web.Request) -> web.Response:
        if request.content_type not in MEDIA_TYPES:
            raise WrongMediaTypeError("send the zip file as it is, with Content-Type: application/zip")
        async with importing:
            with TemporaryFolder("import") as folder:
                imported = await _import(request, Path(folder), store, descriptions, urls)
        note_changed(request, imported["stored"].values())
        return json_response(imported)

    summary = "store the fixtures or the capsule in a zip file as recordings"
    return (OwnRoute("POST", "/-/api/import", Action.CHANGE, import_zip, summary),)


async def _import(
    request: web.Request, folder: Path, store: Store, descriptions: Descriptions, urls: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Store what is in the body of a request, and return the keys and the failures by the paths of fixtures."""
    content = folder / "content"
    content.mkdir()
    with (folder / "upload.zip").open("w+b") as file:
        await _receive(request, file)
        await asyncio.to_thread(extract, file, content, LIMITS)
    try:
        limits = Limits(file_bytes=LIMITS.file_bytes, files=LIMITS.files)
        sources = await asyncio.to_thread(sources_in, FolderTree(_root(content)), urls, limits=limits)
    except StoreUnusableError:
        raise
    except OdaProxyError as error:
        raise BadQueryError(str(error).replace(f"{content}/", "").replace(str(content), "the zip file")) from None
    stored, failed = {}, {}
    async for one in import_all(sources, store, descriptions):
        if one.key is None:
            failed[one.path] = one.error.replace(f"{content}/", "")
        else:
            stored[one.path] = str(one.key)
    return {"stored": stored, "failed": failed}


async def _receive(request: web.Request, file: BinaryIO) -> None:
    """Write the body of a request to a file. Raises TooLargeError and NoSpaceError."""
    if (request.content_length or 0) > MAX_UPLOAD:
        raise TooLargeError(f"a zip file may have {MAX_UPLOAD} bytes")
    received = 0
    async for piece in request.content.iter_chunked(256 * 1024):
        received += len(piece)
        if received > MAX_UPLOAD:
            raise TooLargeError(f"a zip file may have {MAX_UPLOAD} bytes")
        try:
            await asyncio.to_thread(file.write, piece)
        except OSError as error:
            raise NoSpaceError(f"the zip file cannot be received: {error.strerror or error}") from error


def _root(content: Path) -> Path:
    """Return the folder of the fixtures: the only one in a zip file that was made of a folder."""
    inside = list(content.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else content
