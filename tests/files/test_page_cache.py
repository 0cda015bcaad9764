"""Files are read from the page cache of the system, or not at all."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NoReturn

import pytest

from oda_proxy.files import page_cache
from oda_proxy.files.page_cache import read_cached

if TYPE_CHECKING:
    from pathlib import Path

NEEDS_LINUX = pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="only Linux tells what is in its page cache")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    return file


def test_a_file_that_was_just_written_is_read_where_the_system_can_tell(file: Path) -> None:
    found = [read_cached(str(file), size) for size in (4, 10, 11)]

    assert found in ([b"0123", b"0123456789", b"0123456789"], [None] * 3)


def test_what_cannot_be_opened_or_is_no_file_is_not_read(tmp_path: Path) -> None:
    assert read_cached(str(tmp_path / "absent"), 10) is None
    assert read_cached(str(tmp_path), 10) is None


@NEEDS_LINUX
def test_what_is_on_the_disk_only_is_not_read_and_closed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    def preadv(descriptor: int, _: object, __: int, flags: int) -> NoReturn:
        used.append((descriptor, flags))
        raise BlockingIOError(errno.EAGAIN, "it would block")

    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(page_cache, "_open_cached", lambda path: os.open(path, os.O_RDONLY))

    assert read_cached(str(file), 10) is None
    ((descriptor, flags),) = used
    assert flags == os.RWF_NOWAIT
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)


def test_without_the_system_call_nothing_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_cache, "_OPENAT2", 100_000)
    assert read_cached(str(file), 10) is None

    monkeypatch.setattr(page_cache, "_system", None)
    assert read_cached(str(file), 10) is None
