"""Histories survive kills, full disks, folders that are read-only, several writers, and older releases."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import count, pairwise
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from oda_proxy.cli import main
from oda_proxy.commands import history as history_command
from oda_proxy.config.folders import cache_folder
from oda_proxy.errors import StoreUnusableError
from oda_proxy.http.scope import time_text
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.history_limits import HistoryLimits, version_at
from tests.store.test_earlier_release import QUERY as SAMPLE_QUERY
from tests.store.test_earlier_release import SAMPLE
from tests.support.dispatcher_responses import answer, json_bytes
from tests.support.http_server import http_server
from tests.support.internet import Page
from tests.support.permissions import folder_for_all, set_modes, unprivileged
from tests.support.recordings import KEYS, into_memory, recording
from tests.support.scripted_upstream import QUERY
from tests.support.servers import PATIENCE, running
from tests.support.small_disks import only_root, output_on_small_disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oda_proxy.query.cache_key import Key
    from tests.support.http_server import Received

KEY = KEYS[0]
UPSTREAM = "http://dispatcher.example"
LEFT_BY_A_CRASH = "a crashed writer left it"
IMPORTED_BY_COMMANDS = (history_command,)
"""Imported here: the user nobody may be unable to read the interpreter of root."""


def texts(store: DiskStore, key: Key = KEY) -> list[bytes]:
    """Return the heads of all versions, in order of time; each has to be whole."""
    found = [into_memory(store.get_version(entry)) for entry in store.versions(key)]
    return [b"".join(one.head.pieces()) for one in found if one is not None]


def assert_in_order(store: DiskStore, key: Key = KEY) -> None:
    versions = store.versions(key)
    assert all(one.valid_until is not None and one.valid_from < one.valid_until for one in versions[:-1])
    assert all((one.valid_until or 0.0) <= later.valid_from for one, later in pairwise(versions))


# -- kills ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_server_that_is_killed_while_it_replaces_recordings_loses_no_version(tmp_path: Path) -> None:
    """Clients refresh three queries at once; a real server is killed as soon as some of them have their answers."""
    numbers = count()

    def respond(received: Received) -> Page:
        if not received.path.startswith("/run_analysis"):
            return Page(b"no such page", status=404)
        text = f"answer {next(numbers)} " * 3000
        products = {"text_product_list": [{"name": "t", "value": text, "meta_data": {}}]}
        return Page(json_bytes(answer(products=products)), "application/json")

    received: list[bytes] = []

    def refresh(url: str) -> None:
        with suppress(OSError, ValueError), urllib.request.urlopen(refreshing(url), timeout=PATIENCE) as response:  # noqa: S310 - on this machine
            value = json.loads(response.read())["products"]["text_product_list"][0]["value"]
            if "stored" in response.headers["Cache-Status"]:
                received.append(" ".join([*value.split()[:2], ""]).encode())

    with http_server(respond) as upstream:
        where = ["--upstream", upstream.url, "--cache-dir", str(tmp_path / "cache")]
        folder = cache_folder(tmp_path / "cache", upstream.url)
        for answers in (4, 8):
            with running(tmp_path / "log", "serve", "--port", "0", *where) as server, ThreadPoolExecutor(3) as pool:
                urls = [f"{server.url}/run_analysis?{QUERY}&query_status=new&DEC={number}" for number in range(3)]
                clients = [pool.submit(refresh, urls[number % 3]) for number in range(18)]
                for client in clients[:answers]:
                    client.result()
                server.process.kill()
            with closing(DiskStore(folder)) as store:
                faults = [fault for fault in store.verify(fix=True) if fault.message != LEFT_BY_A_CRASH]
                assert not faults
                assert not list(store.verify(fix=False))
                found = b""
                for key in list(store.keys()):
                    assert_in_order(store, key)
                    found += b"".join(texts(store, key))
                assert not [text for text in received if text not in found]
    assert len(received) >= 8


def refreshing(url: str) -> urllib.request.Request:
    session = os.urandom(8).hex().upper()
    return urllib.request.Request(f"{url}&session_id={session}", headers={"Cache-Control": "no-cache"})  # noqa: S310 - on this machine


WRITER = """
import sys
from contextlib import closing
from pathlib import Path
from oda_proxy.store.disk import DiskStore
from tests.support.recordings import KEYS, recording

with closing(DiskStore(Path(sys.argv[1]))) as store:
    for number in range(20):
        text = b"%s %d" % (sys.argv[2].encode(), number)
        store.put(recording(KEYS[0], text, stored_at=1000.0 + number // 4))
"""


def test_two_processes_that_replace_a_recording_at_once_lose_no_version(tmp_path: Path) -> None:
    """They share their times, too: several versions of one instant."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, name], stderr=subprocess.PIPE, text=True) for name in ("one", "other")]
    errors = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], errors

    with closing(DiskStore(tmp_path)) as store:
        found = texts(store)
        for name in (b"one", b"other"):
            assert [text for text in found if text.startswith(name + b" ")] == [b"%s %d" % (name, n) for n in range(20)]
        assert_in_order(store)
        assert list(store.verify(fix=False)) == []


# -- media ------------------------------------------------------------------------------------------


ON_TMPFS = """
import json, os, sys
from contextlib import closing
from pathlib import Path
from oda_proxy.errors import StoreUnusableError
from oda_proxy.store.disk import DiskStore
from tests.support.recordings import KEYS, into_memory, recording

stored, refused = [], 0
with closing(DiskStore(Path(sys.argv[1]) / "store")) as store:
    for number in range(60):
        text = b"%d:" % number + os.urandom(100_000)
        try:
            store.put(recording(KEYS[0], text, stored_at=1000.0 + number))
        except StoreUnusableError:
            refused += 1
        else:
            stored.append(text)
    found = [into_memory(store.get_version(one)) for one in store.versions(KEYS[0])]
    same = [b"".join(one.head.pieces()) for one in found] == stored
    store.remove_versions(store.versions(KEYS[0])[:3])
    store.put(recording(KEYS[0], b"afterwards", stored_at=2000.0))
with closing(DiskStore(Path(sys.argv[1]) / "store")) as store:
    versions = store.versions(KEYS[0])
    print(json.dumps([len(stored), refused, same, len(versions), [one.message for one in store.verify(fix=False)]]))
"""


@only_root
def test_a_disk_that_is_full_while_a_version_is_stored_leaves_all_that_there_were(tmp_path: Path) -> None:
    output = output_on_small_disk(ON_TMPFS, tmp_path, "3m")

    stored, refused, same, versions, faults = json.loads(output)
    assert stored > 10
    assert stored + refused == 60
    assert same, "those that were acknowledged, and nothing of the others"
    assert versions == stored - 3 + 1
    assert faults == []


@pytest.fixture
def read_only() -> Iterator[Path]:
    """Return the folder of a store with two versions of a recording that may only be read."""
    with folder_for_all() as parent:
        with closing(DiskStore(folder := cache_folder(parent, UPSTREAM))) as store:
            store.put(recording(KEY, b'"catalog":{"n":1}', stored_at=1000.0))
            store.put(recording(KEY, b'"catalog":{"n":2}', stored_at=2000.0))
        set_modes(folder, of_folders=0o555, of_files=0o444)
        with unprivileged():
            yield folder
        set_modes(folder, of_folders=0o755, of_files=0o644)


def test_versions_of_a_read_only_store_are_read_and_not_lost(
    read_only: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--upstream", UPSTREAM, "--cache-dir", str(read_only.parent)]
    with closing(DiskStore(read_only, history=HistoryLimits(0, 1.0))) as store:
        with pytest.raises(StoreUnusableError):
            store.put(recording(KEY, b"three", stored_at=3000.0))
        assert store.expire_versions(1e9) == 0
        assert texts(store) == [b'"catalog":{"n":1}', b'"catalog":{"n":2}']
        entry = version_at(store.versions(KEY), 1500.0)
        assert entry is not None
        assert entry.valid_until == 2000.0
    assert main(["history", KEY[:8], *where]) == 0
    assert "2 versions" in capsys.readouterr().out
    assert main(["diff", f"{KEY[:8]}@1970-01-01T00:16:40Z", KEY[:8], *where]) == 1


# -- limits, and older releases -----------------------------------------------------------------------


def test_no_history_leaves_only_the_recording_of_today(tmp_path: Path) -> None:
    with closing(DiskStore(tmp_path, history=HistoryLimits.parse("0"))) as store:
        for number in range(3):
            store.put(recording(KEY, b"%d" % number, stored_at=1000.0 + number))
        assert texts(store) == [b"2"]
        assert version_at(store.versions(KEY), 1001.0) is None
        assert store.history_usage().versions == 0
        assert list(store.verify(fix=False)) == []


def test_a_store_of_an_earlier_release_gets_a_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(SAMPLE, tmp_path / "cache")
    where = ["--upstream", UPSTREAM, "--cache-dir", str(tmp_path / "cache")]
    folder = cache_folder(tmp_path / "cache", UPSTREAM)
    with closing(DiskStore(folder)) as store:
        (key,) = store.keys()
        (first,) = store.versions(key)
        before = texts(store, key)
    assert main(["history", key[:8], *where]) == 0
    assert "1 version\n" in capsys.readouterr().out
    with closing(DiskStore(folder)) as store:
        store.put(recording(key, b'"catalog":{}', stored_at=first.stored_at + 60.0, query=first.query))

        assert texts(store, key) == [*before, b'"catalog":{}']
        assert [(one.valid_from, one.valid_until) for one in store.versions(key)] == [
            (first.stored_at, first.stored_at + 60.0),
            (first.stored_at + 60.0, None),
        ]
        assert list(store.verify(fix=False)) == []
    with running(tmp_path / "log", "serve", "--offline", "--port", "0", *where) as proxy:
        fields = urlencode({**SAMPLE_QUERY, "session_id": "ABCDEFGHIJKLMNOP"})
        url = f"{proxy.url}/as-of/{time_text(first.stored_at, is_compact=True)}/only/run_analysis?{fields}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as got:  # noqa: S310 - on this machine
            assert got.headers["Cache-Status"] == "oda-proxy; hit; detail=as-of"
            assert before[0][:200] in got.read()
    assert main(["diff", f"{key[:8]}@{time_text(first.stored_at)}", key[:8], *where]) == 1
