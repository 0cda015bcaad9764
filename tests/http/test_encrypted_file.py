"""Temporary files are encrypted step by step, and any part of them can be read."""

from __future__ import annotations

import os
import random
from contextlib import closing
from typing import TYPE_CHECKING

from oda_proxy.http import encrypted_file
from oda_proxy.http.encrypted_file import EncryptedFile

if TYPE_CHECKING:
    import pytest


def test_a_long_content_is_encrypted_step_by_step_and_any_part_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    content = random.Random(1).randbytes(1000)  # noqa: S311 - a content
    pwrite, written = os.pwrite, []

    def note(descriptor: int, data: memoryview, at: int) -> int:
        written.append((at, bytes(data)))
        return pwrite(descriptor, data, at)

    monkeypatch.setattr(encrypted_file, "STEP", 300)
    monkeypatch.setattr(os, "pwrite", note)
    with closing(EncryptedFile()) as file:
        file.write(content[:7], 0)
        file.write(content[7:], 7)

        assert [at for at, _ in written] == [0, 7, 307, 607, 907]
        assert b"".join(data for _, data in written) != content
        assert file.read(2000, 0) == content
        assert [file.read(50, at) for at in (0, 5, 290, 305, 999)] == [
            content[at : at + 50] for at in (0, 5, 290, 305, 999)
        ]
