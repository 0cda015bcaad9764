"""A Redis and the place of its heads belong together: others are refused before anything is removed."""

from __future__ import annotations

import re
import shutil
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from oda_proxy.errors import StoreUnusableError
from oda_proxy.store.redis.address import StoreAddress
from oda_proxy.store.redis.clients import sync_client
from oda_proxy.store.redis.opening import open_store
from tests.support.object_server import running_objects
from tests.support.recordings import KEYS, into_memory, recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.redis_server import RedisServer

UPSTREAM = "http://dispatcher.example"

pytestmark = pytest.mark.real


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    """Return the URL of a Redis whose databases are empty, without the number of one."""
    sync_client(StoreAddress.parse(f"{redis_server.url}?bodies=file:///unused").redis).flushall()
    return redis_server.url.removesuffix("/0")


@pytest.fixture(params=["folder", "bucket"])
def places(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, str]]:
    """Yield parameters of two places for heads."""
    if request.param == "folder":
        yield f"bodies=file://{tmp_path}/a", f"bodies=file://{tmp_path}/b"
        return
    with running_objects(tmp_path / "objects") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server.parameters, server.parameters.replace("/tests", "/others")


def put(place: str) -> None:
    with closing(open_store(StoreAddress.parse(place), UPSTREAM)) as store:
        store.put(recording(KEYS[0], b"text"))


def is_stored(place: str) -> bool:
    with closing(open_store(StoreAddress.parse(place), UPSTREAM)) as store:
        return into_memory(store.get(KEYS[0])) == recording(KEYS[0], b"text")


def test_what_does_not_belong_together_is_refused_and_nothing_is_removed(url: str, places: tuple[str, str]) -> None:
    here, elsewhere = places
    put(f"{url}/0?{here}")

    with pytest.raises(StoreUnusableError, match=r"the heads of its recordings are not in .*; correct bodies="):
        is_stored(f"{url}/0?{elsewhere}")
    with pytest.raises(StoreUnusableError, match=r"its heads belong to another Redis than redis://.*/1, or to one"):
        is_stored(f"{url}/1?{here}")
    put(f"{url}/1?{elsewhere}")
    with pytest.raises(StoreUnusableError, match="the heads of its recordings are not in"):
        is_stored(f"{url}/1?{here}")
    assert is_stored(f"{url}/0?{here}")


def test_another_redis_is_used_once_the_file_is_removed_that_the_message_names(url: str, tmp_path: Path) -> None:
    bodies = f"bodies=file://{tmp_path}/heads"
    put(f"{url}/0?{bodies}")
    [name] = (tmp_path / "heads").rglob("index-name")
    with pytest.raises(StoreUnusableError, match=f"remove {re.escape(str(name))} if that Redis is gone"):
        is_stored(f"{url}/1?{bodies}")
    name.unlink()
    assert not is_stored(f"{url}/1?{bodies}")


def test_two_servers_that_start_first_with_different_places_are_not_both_accepted(url: str, tmp_path: Path) -> None:
    with closing(open_store(StoreAddress.parse(f"{url}/0?bodies=file://{tmp_path}/heads"), UPSTREAM)):
        pass
    with pytest.raises(StoreUnusableError, match="the heads of its recordings are not in"):
        is_stored(f"{url}/0?bodies=file://{tmp_path}/mistyped")


def test_heads_that_are_gone_do_not_keep_an_empty_index_from_being_used(url: str, tmp_path: Path) -> None:
    place = f"{url}/0?bodies=file://{tmp_path}/heads"
    with closing(open_store(StoreAddress.parse(place), UPSTREAM)):
        pass
    shutil.rmtree(tmp_path / "heads")
    put(place)
    assert is_stored(place)


def test_a_store_without_a_name_gets_one_if_it_has_its_heads(url: str, tmp_path: Path) -> None:
    place = f"{url}/0?bodies=file://{tmp_path}/heads"
    put(place)
    client = sync_client(StoreAddress.parse(place).redis)
    client.delete(*client.keys("*index-name"))
    [name] = (tmp_path / "heads").rglob("index-name")
    name.unlink()
    with pytest.raises(StoreUnusableError, match="the heads of its recordings are not in"):
        is_stored(f"{url}/0?bodies=file://{tmp_path}/mistyped")
    assert is_stored(place)
    assert name.read_bytes()


def test_a_server_whose_redis_loses_its_data_stores_and_removes_nothing_until_the_file_is_removed(
    url: str, tmp_path: Path
) -> None:
    place = f"{url}/0?bodies=file://{tmp_path}/heads"
    with closing(open_store(StoreAddress.parse(place), UPSTREAM)) as store:
        store.put(recording(KEYS[0], b"text"))
        client = sync_client(StoreAddress.parse(place).redis)
        backup = {key: client.dump(key) for key in client.scan_iter()}
        client.flushall()

        for use in (
            lambda: store.get(KEYS[0]),
            lambda: store.put(recording(KEYS[1], b"other")),
            store.remove_orphans,
            lambda: store.remove(KEYS[0]),
        ):
            with pytest.raises(StoreUnusableError, match="Redis has lost its data, or is not the one of before"):
                use()
        with pytest.raises(StoreUnusableError, match=r"or to one that lost its data; .* remove .*index-name"):
            store.claims_maintenance()
        assert not client.exists(*backup)

        for key, value in backup.items():
            client.restore(key, 0, value or b"", replace=True)
        assert store.claims_maintenance()
        assert into_memory(store.get(KEYS[0])) == recording(KEYS[0], b"text")

        client.flushall()
        [name] = (tmp_path / "heads").rglob("index-name")
        name.unlink()
        assert store.claims_maintenance()
        store.put(recording(KEYS[1], b"other"))
        assert store.remove_orphans() == 1


def test_rows_without_the_name_that_the_heads_have_are_refused_with_what_to_do(url: str, tmp_path: Path) -> None:
    place = f"{url}/0?bodies=file://{tmp_path}/heads"
    put(place)
    client = sync_client(StoreAddress.parse(place).redis)
    client.delete(*client.keys("*index-name"))  # a server of an earlier release stores them after data were lost

    with pytest.raises(StoreUnusableError, match=r"it has no name, and .*; correct --store, or remove .*index-name"):
        is_stored(place)
    [name] = (tmp_path / "heads").rglob("index-name")
    name.unlink()
    assert is_stored(place)
