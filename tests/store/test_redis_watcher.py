"""What another server stores or removes is heard of by key; what is missed makes all recordings be compared once."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.store.hot_tier import HotTier
from oda_proxy.store.objects.bodies import INDEX_NAME
from oda_proxy.store.objects.folder import FolderBodies
from oda_proxy.store.redis.address import FolderAddress, StoreAddress
from oda_proxy.store.redis.clients import sync_client
from oda_proxy.store.redis.index import RedisIndex
from oda_proxy.store.redis.keyspace import Keyspace, folder_of
from oda_proxy.store.redis.opening import open_store
from oda_proxy.store.redis.store import RedisStore
from oda_proxy.store.redis.watcher import ChangeWatcher
from tests.support.recordings import KEYS, recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oda_proxy.query.cache_key import Key

pytestmark = pytest.mark.real

UPSTREAM = "https://example.org/dispatcher"
HOT, WARM, OTHER = KEYS[:3]


@pytest.fixture
def store(address: StoreAddress) -> Iterator[RedisStore]:
    """Open the store as another server."""
    with closing(open_store(address, UPSTREAM)) as opened:
        opened.put(recording(HOT, b"first"))
        opened.put(recording(WARM, b"first"))
        yield opened


@dataclass
class Server:
    """A server with recordings in memory, which looks for changes when a test says so."""

    client: Any
    watcher: ChangeWatcher
    tier: HotTier

    def is_hot(self, key: Key) -> bool:
        """Return whether a recording is served from memory."""
        return self.tier.find(key) is not None

    def text(self, key: Key) -> bytes | None:
        """Return the head that is served, from memory or not."""
        found = self.tier.find(key) or self.tier.read(key)
        return None if found is None else b"".join(found.head.pieces())

    def commands(self) -> int:
        """Return how many commands Redis has executed, also in scripts."""
        return sum(one["calls"] for name, one in self.client.info("commandstats").items() if "info" not in name)


@pytest.fixture
async def server(address: StoreAddress, store: RedisStore) -> Server:
    """Return a server that has two recordings in memory."""
    assert store.usage().recordings == 2
    client = sync_client(address.redis)
    index = RedisIndex(client, Keyspace.of(UPSTREAM))
    watcher = ChangeWatcher(index)
    watcher.look()
    assert isinstance(address.bodies, FolderAddress)
    bodies = FolderBodies(address.bodies.folder / folder_of(UPSTREAM))
    server = Server(client, watcher, HotTier(RedisStore(address, index, bodies, watcher)))
    for key in (HOT, WARM):
        assert server.text(key) == b"first"
        assert server.is_hot(key)
    return server


async def test_a_hit_from_memory_needs_no_command_while_another_server_stores(
    store: RedisStore, server: Server
) -> None:
    def executed(*, hits: bool) -> int:
        before = server.commands()
        for number in range(5):
            store.put(recording(OTHER, b"%d" % number))
            server.watcher.look()
            server.tier._forget_version()
            assert not hits or all(server.is_hot(key) for key in (HOT, WARM) * 20)
        return server.commands() - before

    executed(hits=False)  # the first of these stores a new key
    assert executed(hits=False) == executed(hits=True) > 0


@pytest.mark.parametrize("event", ["removed", "replaced", "replaced by the same", "evicted"])
async def test_what_another_server_changed_is_not_served_after_one_look(
    store: RedisStore, server: Server, event: str
) -> None:
    entry = store.entry(HOT)
    assert entry
    if event == "removed":
        store.remove(HOT)
    elif event == "evicted":
        store.evict(entry)
    else:
        store.put(recording(HOT, b"second" if event == "replaced" else b"first", stored_at=99.0))

    server.watcher.look()

    server.tier._forget_version()
    assert not server.is_hot(HOT)
    assert server.is_hot(WARM)
    assert server.text(HOT) == {"replaced": b"second", "replaced by the same": b"first"}.get(event)


async def test_what_this_server_changed_is_not_served_before_it_looks(server: Server) -> None:
    server.tier._store.remove(HOT)

    assert not server.is_hot(HOT)
    assert server.is_hot(WARM)


def trim(client: Any, keys: Keyspace) -> None:
    """Lose what was written to the stream."""
    client.xtrim(keys.key("changes"), maxlen=0)


def lose_the_stream(client: Any, keys: Keyspace) -> None:
    client.delete(keys.key("changes"))


def write_none(client: Any, keys: Keyspace) -> None:
    """Change as a release does that writes no stream: only the version shows it."""
    last = client.xrevrange(keys.key("changes"), count=1)[0][0]
    client.xdel(keys.key("changes"), last)


def write_none_in_between(client: Any, keys: Keyspace) -> None:
    write_none(client, keys)
    version = client.incr(keys.key("version"))
    client.xadd(keys.key("changes"), {"key": OTHER}, id=f"{version}-1")


def restore(client: Any, keys: Keyspace) -> None:
    """Return to an earlier state of Redis, in which others have changed as much since."""
    version = int(client.get(keys.key("version")))
    client.delete(keys.key("changes"))
    client.set(keys.key("version"), version)
    client.xadd(keys.key("changes"), {"key": OTHER}, id=f"{version - 1}-7")
    client.xadd(keys.key("changes"), {"key": OTHER}, id=f"{version}-8")


def lose_the_version(client: Any, keys: Keyspace) -> None:
    """Begin at 0 again: the next change does, whose ID is lower than that of the last."""
    client.delete(keys.key("version"))


def flush(client: Any, keys: Keyspace) -> None:
    client.delete(*(key for key in client.scan_iter() if key != keys.key(INDEX_NAME).encode()))


@pytest.mark.parametrize(
    "loss", [trim, lose_the_stream, write_none, write_none_in_between, restore, flush], ids=lambda loss: loss.__name__
)
async def test_where_a_change_was_missed_all_recordings_are_compared_once(
    store: RedisStore, server: Server, loss: Callable[[Any, Keyspace], None]
) -> None:
    store.remove(HOT)
    loss(server.client, Keyspace.of(UPSTREAM))
    assert server.is_hot(HOT), "it has not looked"

    server.watcher.look()
    server.tier._forget_version()

    assert not server.is_hot(HOT)
    assert not server.is_hot(WARM)
    assert server.text(HOT) is None
    assert server.text(WARM) == (None if loss is flush else b"first")
    server.watcher.look()
    server.tier._forget_version()
    assert server.is_hot(WARM) is (loss is not flush)

    store.put(recording(OTHER, b"another"))  # the next change is heard of by key again, or makes all be compared
    server.watcher.look()
    store.remove(WARM)
    server.watcher.look()
    server.tier._forget_version()
    assert server.text(WARM) is None


async def test_a_version_that_begins_again_does_not_hide_changes(store: RedisStore, server: Server) -> None:
    lose_the_version(server.client, Keyspace.of(UPSTREAM))
    store.remove(HOT)

    server.watcher.look()
    server.tier._forget_version()

    assert server.text(HOT) is None
    store.remove(WARM)
    server.watcher.look()
    server.tier._forget_version()
    assert server.text(WARM) is None


async def test_more_changes_than_are_stored_make_all_recordings_be_compared(store: RedisStore, server: Server) -> None:
    store.remove(HOT)
    keys = Keyspace.of(UPSTREAM)
    for number in range(5):
        store.put(recording(OTHER, b"%d" % number))
    server.client.xtrim(keys.key("changes"), maxlen=3, approximate=False)

    server.watcher.look()
    server.tier._forget_version()

    assert not server.is_hot(HOT)


async def test_a_connection_that_is_cut_costs_one_look(address: StoreAddress, store: RedisStore) -> None:
    """What happened meanwhile is read from the stream: nothing else is compared."""
    with closing(open_store(address, UPSTREAM, follow=True)) as following:
        tier, client = HotTier(following), sync_client(address.redis)
        for key in (HOT, WARM):
            tier.read(key)
        for _ in range(2):
            waiting = [one for one in client.client_list() if one["cmd"] == "xread"]
            for one in waiting:
                client.client_kill(one["addr"])
            store.put(recording(OTHER, b"another"))
        store.remove(HOT)
        begun = time.monotonic()
        while tier.find(HOT) is not None:
            assert time.monotonic() - begun < 30, "it never hears of it"
            tier._forget_version()
            await asyncio.sleep(0.01)

        tier._forget_version()
        assert tier.find(WARM) is not None
