"""A job is in the journal before its first request, which does not wait for the disk."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from oda_proxy.jobs.journal import JobJournal, JournalEntry
from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Query

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

ENTRY = JournalEntry(Key("a" * 64), Query("isgri", "isgri_lc", "Real", (), api=True), 1.0)


async def test_an_entry_is_flushed_once_the_job_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    journal = JobJournal(tmp_path)

    await journal.write(ENTRY)
    assert await journal.read(ENTRY.key) == ENTRY
    assert flushed == []

    named = replace(ENTRY, job_id="c0ffee0123456789")
    await journal.write(named)
    assert await journal.read(ENTRY.key) == named
    assert len(flushed) == 1


async def test_a_folder_that_is_a_file_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "jobs").write_text("not a folder")
    journal = JobJournal(tmp_path)
    for _ in range(3):
        await journal.remove(ENTRY.key)
    assert len(caplog.messages) == 1
