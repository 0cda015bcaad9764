"""Write a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from oda_proxy.files.ownership import make_folder, match_owner


def write(file: Path, content: bytes, *, flush: bool = True) -> None:
    """Write a file, and create its folder; raises OSError, and the previous file then remains.

    Without `flush` it takes less time, and the file may be empty after a loss of power.
    """
    make_folder(file.parent)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix="new-")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content)
            handle.flush()
            if flush:
                os.fsync(handle.fileno())
        match_owner(temporary, file.parent)
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
