"""Packs files for download as the dispatcher does: one file gzipped, several as a gzipped tar archive."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return the gzipped file, or the gzipped tar archive of several; the same files give the same bytes."""
    if len(files) == 1:
        (content,) = files.values()
        return gzip.compress(content, mtime=0)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(archive.getvalue(), mtime=0)
