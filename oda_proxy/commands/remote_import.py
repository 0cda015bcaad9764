"""The command `import --server`: sends fixtures, or a capsule, to a running proxy as a zip file."""

from __future__ import annotations

import asyncio
import tempfile
from typing import TYPE_CHECKING, BinaryIO, Final

from oda_proxy.capsule.source_folder import is_capsule
from oda_proxy.commands.output import print_json, print_lines, warn
from oda_proxy.commands.proxy_api import ProxyError, connected
from oda_proxy.files.archives import open_tree
from oda_proxy.files.zip_writing import write_zip
from oda_proxy.query.cache_key import short_key
from oda_proxy.query.message_text import printable

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from oda_proxy.commands.proxy_api import Server

_ROUTE: Final = "/-/api/import"


def import_(server: Server, folder: Path, *, as_json: bool) -> int:
    """Store the fixtures of a folder, a capsule or an archive at a proxy; the exit status is 1 if one cannot be."""
    with open_tree(folder) as tree, tempfile.TemporaryFile() as file:
        is_capsule(tree)  # names a folder that is neither
        write_zip(tree, file, level=1)
        file.seek(0)
        answer = asyncio.run(_send(server, file))
    try:
        stored, failed = dict(answer["stored"]), dict(answer["failed"])
    except (KeyError, TypeError, ValueError) as error:
        raise ProxyError(f"the response of {server.url} is not that of oda-proxy") from error
    for path, reason in failed.items():
        warn(printable(f"{path} was not stored: {reason}"))
    if as_json:
        print_json({"kept": stored, "failed": failed})
    else:
        print_lines(printable(f"{short_key(key)}  {path}") for path, key in stored.items())
    return 1 if failed else 0


async def _send(server: Server, file: BinaryIO) -> Any:
    async with connected(server) as api:
        return await api.send("POST", _ROUTE, body=file, headers={"Content-Type": "application/zip"})
