"""The HTTP API for collections, below `/-/api/collections` (docs/collections.md)."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from aiohttp import web

from oda_proxy.access.roles import Action
from oda_proxy.files.temporary import TemporaryFolder
from oda_proxy.files.trees import FolderTree
from oda_proxy.files.zip_writing import write_zip
from oda_proxy.handlers.collection_export import collection_json, export_collection, member_json
from oda_proxy.http.scope import parse_name
from oda_proxy.store.collections import remove_collection
from oda_proxy.web.change_log import note_changed
from oda_proxy.web.own_routes import VISITOR, OwnRoute
from oda_proxy.web.recording_api import json_response
from oda_proxy.web.visible_collections import visible_collection, visible_collections

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oda_proxy.proxy import Proxy
    from oda_proxy.store.collections import Collection, Collections

COLLECTIONS: Final = "/-/api/collections"
_NAME: Final = "{collection:[A-Za-z0-9-]{1,64}}"
ONE: Final = f"{COLLECTIONS}/{_NAME}"
MISSING: Final = "Oda-Proxy-Missing"
"""The header that says how many answers of the collection a capsule lacks; its README.md names them."""
_PIECE: Final = 256 * 1024


def routes(proxy: Proxy, index: Collections, url: str, folder: Path | None) -> Sequence[OwnRoute]:
    """Return the routes; `url` is the address of the dispatcher, `folder` that of the store."""
    api = _CollectionApi(proxy, index, url, folder)
    return (
        OwnRoute("GET", COLLECTIONS, Action.READ_RECORDINGS, api.list, "list the collections"),
        OwnRoute("GET", ONE, Action.READ_RECORDINGS, api.show, "show what is in a collection"),
        OwnRoute("DELETE", ONE, Action.CHANGE, api.remove, "remove a collection"),
        OwnRoute(
            "POST", f"{ONE}/rename/{{new:[A-Za-z0-9-]{{1,64}}}}", Action.CHANGE, api.rename, "rename a collection"
        ),
        OwnRoute(
            "GET",
            f"/-/collections/{_NAME}/capsule.zip",
            Action.READ_RECORDINGS,
            api.export,
            "a collection as a capsule in a zip file",
        ),
    )


class _CollectionApi:
    """Reads and changes the collections of a proxy for a visitor, to whom those of others do not exist."""

    def __init__(self, proxy: Proxy, index: Collections, url: str, folder: Path | None) -> None:
        self._proxy = proxy
        self._index = index
        self._url = url
        self._folder = folder
        self._exporting = asyncio.Lock()

    async def list(self, request: web.Request) -> web.Response:
        """Respond with the collections that the visitor may see."""
        found = await asyncio.to_thread(visible_collections, self._index, request[VISITOR])
        return json_response({"collections": [collection_json(one) for one in found]})

    async def show(self, request: web.Request) -> web.Response:
        """Respond with a collection and its members."""
        one = await self._one(request)
        members = await asyncio.to_thread(self._index.members, one)
        return json_response({**collection_json(one), "members": [member_json(member) for member in members]})

    async def remove(self, request: web.Request) -> web.Response:
        """Remove a collection; its recordings may be evicted then."""
        one = await self._one(request)
        await asyncio.to_thread(remove_collection, self._index, self._proxy.store, one)
        note_changed(request, [one.name])
        return json_response({"removed": [one.name]})

    async def rename(self, request: web.Request) -> web.Response:
        """Rename a collection. Raises ScopeError for a name that no address may have."""
        one, new = await self._one(request), request.match_info["new"]
        await asyncio.to_thread(self._index.rename, one, parse_name(new))
        note_changed(request, [one.name, new])
        return json_response({"renamed": [one.name, new]})

    async def export(self, request: web.Request) -> web.StreamResponse:
        """Respond with a capsule of a collection; with its private recordings for who may see them."""
        one = await self._one(request)
        async with self._exporting:
            file, missing = await asyncio.to_thread(self._export, one)
        with closing(file):
            response = web.StreamResponse(
                headers={
                    "Content-Type": "application/zip",
                    "Content-Disposition": f'attachment; filename="{one.name}.zip"',
                    "Cache-Control": "no-store",
                    MISSING: str(missing),
                }
            )
            response.content_length = file.seek(0, 2)
            file.seek(0)
            await response.prepare(request)
            if request.method != "HEAD":
                while piece := await asyncio.to_thread(file.read, _PIECE):
                    await response.write(piece)
            await response.write_eof()
            return response

    def _export(self, one: Collection) -> tuple[BinaryIO, int]:
        """Return the zip file of a capsule, without a name, and how many members of the collection it lacks."""
        with TemporaryFolder("export") as folder:
            exported = export_collection(
                self._index,
                one,
                self._proxy.store,
                Path(folder),
                url=self._url,
                store_folder=self._folder,
                include_private=bool(one.owner),
            )
            file = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - the caller closes it
            try:
                write_zip(FolderTree(Path(folder)), file)
            except BaseException:
                file.close()
                raise
            return file, len(exported.missing) + exported.private

    async def _one(self, request: web.Request) -> Collection:
        """Return the collection that the path names. Raises NoCollectionError."""
        name, beginning = request.match_info["collection"], request.query.get("owner", "")
        return await asyncio.to_thread(visible_collection, self._index, request[VISITOR], name, beginning)
