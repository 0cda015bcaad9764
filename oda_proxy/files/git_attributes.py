"""The file by which git leaves the line ends in a folder alone: its manifest has the digests of all files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from oda_proxy.errors import FixtureError
from oda_proxy.files import atomic

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = ".gitattributes"

_CONTENT: Final = b"""# git must not change line ends here: the manifest has the digests of all files
* -text
"""


def write_git_attributes(folder: Path) -> None:
    """Write the file, unless the folder has one. Blocks. Raises FixtureError."""
    file = folder / NAME
    try:
        if not file.exists():
            atomic.write(file, _CONTENT)
            file.chmod(folder.stat().st_mode & 0o666)  # whoever may read the folder may read this file
    except OSError as error:
        raise FixtureError(file, f"cannot be written: {error.strerror}") from None
