"""What a folder or an archive holds: a capsule or fixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oda_proxy.capsule import capsule, layout
from oda_proxy.errors import OdaProxyError
from oda_proxy.fixture.json_files import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

    from oda_proxy.files.trees import FileTree


class NotASourceError(OdaProxyError):
    """A path is neither a capsule nor a folder of fixtures."""

    def __init__(self, folder: Path) -> None:
        if not folder.exists():
            reason = "does not exist"
        elif not folder.is_dir():
            reason = "is neither a folder nor a .zip or .tar.gz file of one"
        else:
            reason = f"is neither a capsule (it has no {layout.MANIFEST}) nor a folder of fixtures (no {MANIFEST})"
        super().__init__(f"{folder} {reason}")


def is_capsule(tree: FileTree) -> bool:
    """Whether there is a capsule rather than fixtures. Raises NotASourceError if there is neither."""
    if capsule.is_capsule(tree):
        return True
    if not tree.has(MANIFEST):
        raise NotASourceError(tree.path)
    return False
