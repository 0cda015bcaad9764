"""What a folder holds: a capsule or fixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oda_proxy.capsule import capsule, layout
from oda_proxy.errors import OdaProxyError
from oda_proxy.fixture.json_files import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path


class NotASourceError(OdaProxyError):
    """A path is neither a capsule nor a folder of fixtures."""

    def __init__(self, folder: Path) -> None:
        if not folder.exists():
            reason = "does not exist"
        elif not folder.is_dir():
            reason = "is not a folder"
        else:
            reason = f"is neither a capsule (it has no {layout.MANIFEST}) nor a folder of fixtures (no {MANIFEST})"
        super().__init__(f"{folder} {reason}")


def is_capsule(folder: Path) -> bool:
    """Whether a folder holds a capsule rather than fixtures. Raises NotASourceError if it holds neither."""
    if capsule.is_capsule(folder):
        return True
    if not (folder / MANIFEST).exists():
        raise NotASourceError(folder)
    return False
