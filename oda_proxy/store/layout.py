"""The folder of a store: its subfolders, its owner, and the version of its layout."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from oda_proxy._version import __version__
from oda_proxy.errors import StoreUnusableError
from oda_proxy.files import atomic
from oda_proxy.files.ownership import make_folder

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1
"""Version of the layout: what lies where, and what the keys of the index mean (docs/upgrading.md)."""

FILE = "store.json"
HEADS = "heads"
PICTURES = "pictures"
"""Pictures that were drawn of recordings; may be removed at any time."""
_MAX_SIZE = 64 * 1024


class OtherLayoutError(StoreUnusableError):
    """The folder has the layout of another release."""

    detail = "other-release"

    def __init__(self, folder: Path, version: object, writer: str) -> None:
        super().__init__(
            folder,
            f"their layout has version {version!r:.20} ({writer:.40}), and this release reads version {VERSION}",
            "use the release that wrote it, or name another folder with --cache-dir",
        )


def prepare(folder: Path) -> None:
    """Create what is missing of a folder, and check the version of its layout.

    A folder that exists and cannot be written to is left as it is. Raises OtherLayoutError, StoreUnusableError where
    the version cannot be read, or OSError where the folder cannot be created.
    """
    make_folder(folder, mode=0o700)  # some recordings are private
    file = folder / FILE
    if file.exists():
        _check(folder, file)
    try:
        make_folder(folder / HEADS)
        if not file.exists():
            members = {"format": VERSION, "written_by": f"oda-proxy {__version__}"}
            atomic.write(file, f"{json.dumps(members, indent=1)}\n".encode())
    except OSError:
        return  # writing a recording reports it


def _check(folder: Path, file: Path) -> None:
    with file.open("rb") as handle:
        content = handle.read(_MAX_SIZE)
    try:
        members = json.loads(content)
        version, writer = members["format"], str(members.get("written_by", ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        advice = f"remove {FILE} if a release of oda-proxy before the next layout wrote the folder"
        raise StoreUnusableError(folder, f"{FILE} is damaged", advice) from error
    if version != VERSION:
        raise OtherLayoutError(folder, version, writer)
