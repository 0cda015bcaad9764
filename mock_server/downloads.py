"""Packs files for download as the dispatcher does: one file gzipped, several as a gzipped tar archive."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def pack(files: Mapping[str, bytes], name: str) -> bytes:
    """Return the gzipped file, or the gzipped tar archive of several; the same files give the same bytes.

    `name` is that of the download: a gzipped file has it in its header, and the files of an archive are below it.
    """
    if len(files) == 1:
        (content,) = files.values()
        return _gzipped(content, name)
    archive = io.BytesIO()
    folder = name.replace(".tar", "").replace(".gz", "")
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for file, content in files.items():
            entry = tarfile.TarInfo(f"{folder}/{file}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return _gzipped(archive.getvalue(), name)


def _gzipped(content: bytes, name: str) -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile(name, "wb", fileobj=packed, mtime=0) as file:
        file.write(content)
    return packed.getvalue()
