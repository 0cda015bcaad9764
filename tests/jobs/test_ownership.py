"""The locks of jobs on a disk that is full, and beside files of other users."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from oda_proxy.jobs.ownership import JobLocks
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.query.cache_key import Key
from tests.support.permissions import folder_for_all, unprivileged

if TYPE_CHECKING:
    import pytest

KEY = Key("a" * 64)


async def test_a_lock_that_cannot_be_written_does_not_hold_up_the_next_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty file would look like the lock of an unknown process, until its heartbeat has stopped for a minute."""

    def full(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    locks = JobLocks(tmp_path, Runtime())
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        async with locks.hold(KEY) as waited:
            assert not waited
            assert not list((tmp_path / "jobs").glob("*.lock"))

    async with locks.hold(KEY) as waited:
        assert not waited
        assert await JobLocks(tmp_path, Runtime()).is_locked(KEY)
    assert not await locks.is_locked(KEY)


async def test_a_job_does_not_wait_until_its_lock_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)

    async with JobLocks(tmp_path, Runtime()).hold(KEY):
        assert (tmp_path / "jobs" / f"{KEY}.lock").exists()

    assert flushed == []


async def test_a_lock_of_another_user_that_cannot_be_read_counts_as_held() -> None:
    with folder_for_all() as folder:
        (folder / "jobs").mkdir(mode=0o777)
        (folder / "jobs").chmod(0o777)
        (folder / "jobs" / f"{KEY}.lock").write_text("{}")
        (folder / "jobs" / f"{KEY}.lock").chmod(0)
        with unprivileged():
            assert await JobLocks(folder, Runtime()).is_locked(KEY)
