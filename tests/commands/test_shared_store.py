"""The commands on a store in Redis: the same output as on a folder with the same recordings, and the same effects."""

from __future__ import annotations

import json
import urllib.request
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

import oda_proxy
from oda_proxy.cli import main
from oda_proxy.config.folders import cache_folder
from oda_proxy.query.query import Query
from oda_proxy.store.collection_index import CollectionIndex
from oda_proxy.store.collections import ADDRESS, RECORDING, Member
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.redis.address import StoreAddress
from oda_proxy.store.redis.clients import sync_client
from tests.commands.test_history import at, head
from tests.support.image_query import IMAGE
from tests.support.recordings import KEYS, recording

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.real

UPSTREAM = "http://dispatcher.example"
QUERY = Query("isgri", "isgri_lc", "Real", (("src_name", ("Crab",)),), api=True)
KEY = KEYS[0]


@pytest.fixture
def url(redis_server: RedisServer, tmp_path: Path) -> str:
    url = f"{redis_server.url}?bodies=file://{tmp_path}/heads"
    sync_client(StoreAddress.parse(url).redis).flushall()
    return url


@pytest.fixture
def folder(tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]) -> Path:
    """Fill a folder with versions, pins and a collection, copy it to Redis, and return it."""
    caches = tmp_path / "caches"
    own = cache_folder(caches, UPSTREAM)
    with closing(DiskStore(own)) as store:
        for date, flux in (("2026-01-10T12:00:00", 5.0), ("2026-03-10T12:00:00", 6.0), ("2026-06-10T12:00:00", 7.0)):
            store.put(recording(KEY, head(flux), stored_at=at(date), query=QUERY, cost=3.0))
        store.put(recording(KEYS[1], head(1.0), stored_at=at("2026-02-01T00:00:00"), query=QUERY, private=True))
        store.pin(KEY, pinned=True)
        (size,) = (entry.stored_size for entry in store.entries() if entry.key == KEY)
    member = Member(RECORDING, KEY, 1, 0.0, was_pinned=False, content=None)
    CollectionIndex(own, lambda: 100.0).note("paper", "", member, size, [(ADDRESS, "http://proxy/in/paper")])
    assert main(["copy", "--upstream", UPSTREAM, "--from", str(caches), "--to", url]) == 0
    assert "2 recordings copied" in capsys.readouterr().out
    return caches


READING = (
    ("ls", "--json"),
    ("ls", "--json", "--product", "isgri_lc"),
    ("stats",),
    ("stats", "--json"),
    ("show", KEY[:5], "--json"),
    ("history", KEY[:5]),
    ("history", KEY[:5], "--json"),
    ("diff", f"{KEY[:5]}@2026-02-01", f"{KEY[:5]}@2026-04-01"),
    ("diff", f"{KEY[:5]}@2026-02-01", KEY[:5], "--json"),
    ("verify",),
    ("verify", "--json"),
    ("collections",),
    ("collections", "--json"),
    ("collections", "show", "paper"),
    ("export", "--dry-run", "fixtures"),
    ("export", "--collection", "paper", "--dry-run", "capsule"),
    ("prune", "--max-size", "1", "--dry-run"),
    ("rm", "--dry-run", "--instrument", "isgri"),
    ("collections", "show", "other"),
    ("history", "ffff"),
)
CHANGING = (
    ("rm", f"{KEY[:5]}@2026-02-01"),
    ("history", KEY[:5]),
    ("collections", "rename", "paper", "book"),
    ("unpin", KEY[:5]),
    ("pin", KEY[:5]),
    ("prune", "--max-size", "1"),
    ("ls", "--json"),
    ("stats", "--json"),
    ("rm", KEY[:5]),
    ("history", KEY[:5], "--json"),
    ("rm", "--all-versions", KEY[:5]),
    ("collections", "rm", "book"),
    ("stats", "--json"),
    ("verify", "--fix"),
)


@pytest.mark.parametrize("commands", [READING, CHANGING], ids=["reading", "changing"])
def test_commands_print_the_same_for_a_store_in_redis_as_for_a_folder(
    commands: tuple[tuple[str, ...], ...],
    folder: Path,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("ODA_PROXY_UPSTREAM", UPSTREAM)
    for command in commands:
        printed = []
        for place in (("--cache-dir", str(folder)), ("--store", url)):
            status = main([*command, *place])
            captured = capsys.readouterr()
            printed.append((status, captured.out, captured.err))

        assert printed[0] == printed[1], command
        assert printed[0][1] or printed[0][2], command


def arrays(url: str, *, refresh: bool = False) -> object:
    """Query the image, which may be computed again, and return its arrays."""
    headers = {"Cache-Control": "no-cache"} if refresh else {}
    request = urllib.request.Request(f"{url}/run_analysis?{urlencode(IMAGE)}", headers=headers)  # noqa: S310 - on this machine
    with urllib.request.urlopen(request) as response:  # noqa: S310 - on this machine
        return json.load(response)["products"]["numpy_data_product_list"]


@pytest.mark.slow
def test_what_one_server_noted_is_exported_and_what_it_recorded_is_removed_and_imported(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        oda_proxy.mocking(scenario="new-calibration") as mock,
        oda_proxy.serving(mock, store=url, cache_dir=tmp_path / "one") as one,
        oda_proxy.serving(mock, store=url, cache_dir=tmp_path / "other") as other,
    ):
        where = ["--upstream", mock, "--store", url, "--cache-dir", str(tmp_path / "one")]

        def run(*words: str, status: int = 0) -> str:
            assert main([*words, *where]) == status
            return capsys.readouterr().out

        first = arrays(f"{one}/in/paper")
        assert arrays(f"{other}/in/paper") == first
        (listed,) = json.loads(run("ls", "--json"))
        (collection,) = json.loads(run("collections", "--json"))["collections"]
        assert (listed["pinned"], collection["name"], collection["recordings"]) == (True, "paper", 1)
        (member,) = json.loads(run("collections", "show", "paper", "--json"))["members"]
        assert (member["key"], member["uses"]) == (listed["key"], 2)
        assert "1 recording" in run("export", "--collection", "paper", "paper.zip")

        oda_proxy.MockControl(mock).faults[0].switch_off()
        later = arrays(one, refresh=True)
        assert later != first
        begin, _ = json.loads(run("history", listed["key"], "--json"))["versions"]
        moment = datetime.fromtimestamp(begin["valid_from"], UTC).strftime("%Y%m%d%H%M%S%f")
        assert arrays(f"{other}/as-of/{moment}/only") == first
        assert arrays(other) == later
        assert "values differ" in run("history", listed["key"])

        run("export", "fixtures")
        run("rm", "--all-versions", listed["key"])
        assert json.loads(run("ls", "--json")) == []
        run("import", "fixtures")
        assert [entry["key"] for entry in json.loads(run("ls", "--json"))] == [listed["key"]]
        assert json.loads(run("verify", "--json"))["sound"]
    with oda_proxy.replaying(tmp_path / "paper.zip") as replayed:
        assert arrays(replayed) == first
