"""What root writes belongs to the owner of the folder, and a file that cannot be read stops nobody."""

from __future__ import annotations

import os
import re
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from oda_proxy.cli import main
from oda_proxy.errors import StoreUnusableError
from oda_proxy.files import atomic
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.disk_verification import PENDING_AGE
from oda_proxy.store.eviction import Limits
from oda_proxy.store.maintenance import prune
from tests.support.permissions import NOBODY, folder_for_all, unprivileged
from tests.support.recordings import KEYS, into_memory, recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change owners")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder of nobody."""
    with folder_for_all() as parent:
        (folder := parent / "store").mkdir()
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        yield folder


@root_only
def test_files_that_root_writes_belong_to_the_owner_of_the_folder(folder: Path) -> None:
    with closing(DiskStore(folder)) as store:
        store.put(recording(KEYS[0]))
        atomic.write(folder / "descriptions" / "isgri.json", b"{}")
        paths = [folder, *folder.rglob("*")]
        assert len(paths) > 9
        assert {path.name: path.stat().st_uid for path in paths} == {path.name: NOBODY for path in paths}
    with unprivileged(), closing(DiskStore(folder)) as store:
        assert into_memory(store.get(KEYS[0])) == recording(KEYS[0])
        store.put(recording(KEYS[1]))
        assert store.remove(KEYS[0])


def test_without_root_owners_are_not_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "chown", lambda *_, **__: pytest.fail("an owner is changed"))

    with unprivileged(), closing(DiskStore(folder)) as store:
        store.put(recording(KEYS[0]))


@pytest.fixture
def unreadable(folder: Path) -> Iterator[DiskStore]:
    """Return a store of nobody with a head, and the folder of another head, that nobody cannot read."""
    with unprivileged(), closing(DiskStore(folder)) as store:
        for number, key in enumerate(KEYS):
            store.put(recording(key, key.encode(), stored_at=float(number)))
        first, second = (store.entry(key) for key in KEYS[:2])
    assert first
    assert second
    heads = folder / "heads"
    head, subfolder = heads / first.head_name[:2] / first.head_name, heads / second.head_name[:2]
    head.chmod(0)
    subfolder.chmod(0)
    if os.geteuid() == 0:
        os.chown(head, 0, 0)
        os.chown(subfolder, 0, 0)
    with unprivileged(), closing(DiskStore(folder, clock=lambda: PENDING_AGE)) as store:
        yield store
    subfolder.chmod(stat.S_IRWXU)


def test_verify_reports_what_cannot_be_read_and_goes_on(unreadable: DiskStore) -> None:
    found = {fault.subject: fault.message for fault in unreadable.verify(fix=True)}

    assert found.keys() >= set(KEYS[:2])
    assert found[KEYS[0]] == "its head cannot be read: Permission denied"
    assert len(list(unreadable.keys())) == 6, "nothing is removed"


def test_the_command_verify_says_what_it_could_not_fix(
    unreadable: DiskStore, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with unprivileged():
        assert main(["verify", str(folder), "--fix"]) == 1

    verdict = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"\d+ faults left: what cannot be read or removed by this user stays", verdict)


def test_eviction_goes_on_where_a_head_cannot_be_removed(
    unreadable: DiskStore, caplog: pytest.LogCaptureFixture
) -> None:
    assert [entry.key for entry in prune(unreadable, Limits(0))] == KEYS
    assert "Permission denied" in caplog.text
    assert list(unreadable.keys()) == []


def test_orphans_are_removed_where_one_cannot_be(unreadable: DiskStore, caplog: pytest.LogCaptureFixture) -> None:
    orphan = unreadable._folder.heads.path("0" * 64)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"x")

    assert unreadable.remove_orphans() == 1
    (record,) = caplog.records
    assert "cannot remove 1 orphaned files" in record.getMessage()
    assert "Permission denied" in record.getMessage()


def test_a_head_that_cannot_be_read_is_an_error_that_says_what_to_do(unreadable: DiskStore) -> None:
    with pytest.raises(StoreUnusableError, match=r"Permission denied; give its files to the user.*chown"):
        unreadable.get(KEYS[0])
    assert into_memory(unreadable.get(KEYS[5]))
