"""The command `import --server`: sends fixtures, or a capsule, to a running proxy as a zip file."""

from __future__ import annotations

import asyncio
import tempfile
import zipfile
from typing import TYPE_CHECKING, BinaryIO, Final

from oda_proxy.capsule.source_folder import is_capsule
from oda_proxy.commands.output import print_json, print_lines, warn
from oda_proxy.commands.proxy_api import ProxyError, connected
from oda_proxy.query.cache_key import short_key
from oda_proxy.query.message_text import printable

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from oda_proxy.commands.proxy_api import Server

_ROUTE: Final = "/-/api/import"


def import_(server: Server, folder: Path, *, as_json: bool) -> int:
    """Store the fixtures of a folder or a capsule at a proxy; the exit status is 1 if one cannot be stored."""
    is_capsule(folder)  # names a folder that is neither
    with tempfile.TemporaryFile() as file:
        _zip(folder, file)
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


def _zip(folder: Path, file: BinaryIO) -> None:
    """Write the files of a folder to a zip file, with paths relative to the folder; links are not followed."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                archive.write(path, path.relative_to(folder))
