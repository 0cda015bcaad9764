"""What every store does with the earlier versions of recordings."""

from __future__ import annotations

import json
import math
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from oda_proxy.store import disk_versions
from oda_proxy.store.combined import CombinedStore
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.eviction import Limits
from oda_proxy.store.history_limits import HistoryLimits, version_at
from oda_proxy.store.maintenance import prune
from oda_proxy.store.memory import MemoryStore
from oda_proxy.store.redis.address import StoreAddress
from oda_proxy.store.redis.opening import open_store
from oda_proxy.store.redis.store import RedisStore
from tests.support.recordings import KEYS, into_memory, recording
from tests.support.stores import index_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.base import Entry, ManagedStore, Store
    from oda_proxy.store.index import Index
    from tests.support.redis_server import RedisServer

KEY = KEYS[0]
DAY = 86400.0


REDIS = pytest.param("redis", marks=pytest.mark.real)


def redis_store(request: pytest.FixtureRequest, folder: Path, **options: Any) -> RedisStore:
    """Open an empty store in Redis, with its heads in a folder."""
    server: RedisServer = request.getfixturevalue("redis_server")
    address = StoreAddress.parse(f"{server.url}?bodies=file://{folder}/heads")
    return open_store(address, f"http://{folder.parent.name}-{folder.name}", **options)


@pytest.fixture(params=["memory", "disk", "combined", REDIS])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "redis":
        with closing(redis_store(request, tmp_path)) as in_redis:
            yield in_redis
            assert list(in_redis.verify(fix=False)) == []
    elif request.param == "memory":
        yield MemoryStore()
    elif request.param == "combined":
        with closing(CombinedStore(DiskStore(tmp_path / "first"), [DiskStore(tmp_path / "former")])) as combined:
            yield combined
    else:
        with closing(DiskStore(tmp_path)) as on_disk:
            yield on_disk


def times(store: Store, key: Key = KEY) -> list[tuple[float, float | None]]:
    return [(one.valid_from, one.valid_until) for one in store.versions(key)]


def text_at(store: Store, time: float, key: Key = KEY) -> bytes | None:
    """Return the head of the version of a time."""
    entry = version_at(store.versions(key), time)
    found = None if entry is None else into_memory(store.get_version(entry))
    return None if found is None else b"".join(found.head.pieces())


def test_a_recording_is_its_first_version(store: Store) -> None:
    store.put(recording(KEY, b"one", stored_at=10.0))

    assert times(store) == [(10.0, None)]
    assert store.versions(KEY) == [store.entry(KEY)]
    assert [text_at(store, time) for time in (9.9, 10.0, 11.0)] == [None, b"one", b"one"]
    assert store.versions(KEYS[1]) == []


def test_a_recording_that_is_replaced_becomes_an_earlier_version(store: Store) -> None:
    stored = [recording(KEY, text, stored_at=at, cost=at) for text, at in ((b"one", 10.0), (b"two", 20.0))]
    for one in (*stored, recording(KEY, b"three", stored_at=30.0)):
        store.put(one)

    assert times(store) == [(10.0, 20.0), (20.0, 30.0), (30.0, None)]
    assert [into_memory(store.get_version(one)) for one in store.versions(KEY)[:2]] == stored
    assert [text_at(store, time) for time in (9.0, 10.0, 19.9, 20.0, 30.0, 99.0)] == [
        *(None, b"one", b"one", b"two", b"three", b"three")
    ]
    assert into_memory(store.get(KEY)) == recording(KEY, b"three", stored_at=30.0)
    assert len(list(store.entries())) == store.usage().recordings == 1
    assert list(store.keys()) == [KEY]
    assert store.history_usage().versions == 2
    assert store.version_keys_beginning(KEY[:5]) == [KEY]
    assert store.version_keys_beginning("ffff") == []


def test_equal_answers_are_one_version(store: Store) -> None:
    store.put(recording(KEY, b"one", stored_at=10.0))
    store.put(recording(KEY, b"ONE", stored_at=20.0), same_as=store.entry(KEY))
    store.put(recording(KEY, b"One", stored_at=30.0), same_as=store.entry(KEY))
    assert times(store) == [(10.0, None)]
    assert (entry := store.entry(KEY)) is not None
    assert (entry.stored_at, entry.valid_from) == (30.0, 10.0)

    store.put(recording(KEY, b"two", stored_at=40.0))

    assert times(store) == [(10.0, 40.0), (40.0, None)]
    assert text_at(store, 10.0) == b"One"


def test_a_recording_that_was_replaced_since_it_was_compared_is_a_version(store: Store) -> None:
    store.put(recording(KEY, b"one", stored_at=10.0))
    compared = store.entry(KEY)
    store.put(recording(KEY, b"two", stored_at=20.0))

    store.put(recording(KEY, b"one", stored_at=30.0), same_as=compared)

    assert times(store) == [(10.0, 20.0), (20.0, 30.0), (30.0, None)]


def test_a_version_that_is_replaced_at_the_same_time_is_not_mistaken_for_the_next_one(store: Store) -> None:
    store.put(recording(KEY, b"one", stored_at=10.0))
    (listed,) = store.versions(KEY)

    store.put(recording(KEY, b"two", stored_at=10.0))

    assert into_memory(store.get_version(listed)) == recording(KEY, b"one", stored_at=10.0)


def test_a_version_that_was_recorded_again_since_it_was_listed_can_be_read(store: Store) -> None:
    store.put(recording(KEY, b"one", stored_at=10.0))
    (listed,) = store.versions(KEY)

    store.put(recording(KEY, b"ONE", stored_at=20.0), same_as=listed)

    assert into_memory(store.get_version(listed)) == recording(KEY, b"ONE", stored_at=20.0)


def test_a_version_that_is_replaced_while_versions_are_listed_is_among_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, replacements = disk_versions.versions, [recording(KEY, b"two", stored_at=20.0)]

    def replace_after(index: Index, key: Key) -> list[Entry]:
        earlier = found(index, key)
        if replacements:
            on_disk.put(replacements.pop())
        return earlier

    with closing(DiskStore(tmp_path)) as on_disk:
        on_disk.put(recording(KEY, b"one", stored_at=10.0))
        monkeypatch.setattr(disk_versions, "versions", replace_after)

        assert times(on_disk) == [(10.0, 20.0), (20.0, None)]


def test_versions_with_the_same_products_share_a_head(store: Store) -> None:
    texts = (b"one", b"two" * 1000, b"one", b"two" * 1000, b"one")
    for at, text in enumerate(texts):
        store.put(recording(KEY, text, stored_at=float(at)))

    heads = {one.head_name: one.stored_size for one in store.versions(KEY)}
    assert len(heads) == 2
    assert store.usage().occupied == sum(heads.values())
    assert store.history_usage().occupied == store.versions(KEY)[1].stored_size
    assert [text_at(store, float(at)) for at in range(5)] == list(texts)


def test_a_version_can_be_read_after_it_was_replaced(store: Store) -> None:
    store.put(recording(KEY, b"one", stored_at=10.0))
    (current,) = store.versions(KEY)
    store.put(recording(KEY, b"two", stored_at=20.0))

    found = into_memory(store.get_version(current))

    assert found == recording(KEY, b"one", stored_at=10.0)


def test_removing_a_recording_leaves_its_earlier_versions(store: Store) -> None:
    for at in (10.0, 20.0, 30.0):
        store.put(recording(KEY, b"at %d" % at, stored_at=at))

    assert store.remove(KEY)
    assert times(store) == [(10.0, 20.0), (20.0, 30.0)]
    assert text_at(store, 35.0) is None
    assert store.entry(KEY) is None
    store.put(recording(KEY, b"new", stored_at=40.0))
    assert times(store) == [(10.0, 20.0), (20.0, 30.0), (40.0, None)]
    assert text_at(store, 35.0) is None

    first, second, _ = store.versions(KEY)
    assert store.remove_versions([first, replace(first, first_stored_at=11.0)]) == [first]
    assert store.get_version(first) is None
    assert times(store) == [(20.0, 30.0), (40.0, None)]
    assert store.remove_versions([second]) == [second]
    store.remove(KEY)
    assert store.usage().occupied == 0
    assert store.version_keys_beginning("") == []


def test_a_recording_from_before_the_one_it_replaces_follows_it(store: Store) -> None:
    """A clock that was set back, or a capsule of earlier times that is imported."""
    store.put(recording(KEY, b"new", stored_at=50.0))
    store.put(recording(KEY, b"old", stored_at=10.0))
    store.put(recording(KEY, b"same time", stored_at=10.0))

    (_, first_end), (second, second_end), (third, _) = times(store)
    assert 50.0 < (first_end or 0.0) == second < (second_end or 0.0) == third < 50.1
    assert text_at(store, 50.0) == b"new"
    assert text_at(store, 51.0) == b"same time"


def test_earlier_versions_are_evicted_before_recordings(store: Store) -> None:
    for key, at in ((KEYS[0], 1.0), (KEYS[1], 2.0), (KEYS[0], 3.0), (KEYS[1], 4.0)):
        store.put(recording(key, (key[:1].encode() + b"%d" % at) * 1000, stored_at=at))
    store.put(recording(KEYS[2], b"c" * 1000, stored_at=0.0))

    order = [[(one.key, one.valid_until) for one in group] for group in store.groups_to_evict()]

    assert order[:2] == [[(KEYS[0], 3.0)], [(KEYS[1], 4.0)]]
    assert {one for group in order[2:] for one in group} == {(key, None) for key in KEYS[:3]}
    evicted = prune(store, Limits(store.usage().occupied - 1))
    assert [(one.key, one.valid_until) for one in evicted] == [(KEYS[0], 3.0)]
    assert len(list(store.entries())) == 3
    assert len(prune(store, Limits(0))) == 4
    assert store.usage().occupied == 0


def test_a_version_whose_head_a_recording_has_is_evicted_with_that(store: Store) -> None:
    for at, text in ((1.0, b"a" * 100), (2.0, b"b" * 100), (3.0, b"a" * 100)):
        store.put(recording(KEY, text, stored_at=at))

    groups = [[(one.valid_from, one.valid_until) for one in group] for group in store.groups_to_evict()]

    assert groups == [[(2.0, 3.0)], [(3.0, None), (1.0, 2.0)]]


def test_versions_of_pinned_recordings_are_not_evicted(store: Store) -> None:
    for at in (10.0, 20.0):
        store.put(recording(KEY, b"at %d" % at, stored_at=at))
    before = store.versions(KEY)
    store.pin(KEY, pinned=True)

    assert [one.pinned for one in store.versions(KEY)] == [True, True]
    assert prune(store, Limits(0)) == []
    assert not store.evict(before[0])
    store.put(recording(KEY, b"at 30", stored_at=30.0))
    assert prune(store, Limits(0)) == []
    store.pin(KEY, pinned=False)
    assert len(prune(store, Limits(0))) == 3


def test_versions_of_private_recordings_are_private(store: Store) -> None:
    for at in (10.0, 20.0):
        store.put(recording(KEY, b"at %d" % at, stored_at=at, private=True))

    assert [one.private for one in store.versions(KEY)] == [True, True]
    found = into_memory(store.get_version(store.versions(KEY)[0]))
    assert found is not None
    assert found.private


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("all", HistoryLimits()),
        ("none", HistoryLimits(0)),
        ("0", HistoryLimits(0)),
        ("10", HistoryLimits(10)),
        ("365d", HistoryLimits(math.inf, 365 * DAY)),
        ("10,2w", HistoryLimits(10, 14 * DAY)),
        ("2w,10", HistoryLimits(10, 14 * DAY)),
    ],
)
def test_limits_are_parsed(text: str, limits: HistoryLimits) -> None:
    assert HistoryLimits.parse(text) == limits


@pytest.mark.parametrize("text", ["", "many", "-1", "1,2", "1d,2d", "2026-01-01", "10,", "1.5", "1x", "none,10"])
def test_other_texts_are_no_limits(text: str) -> None:
    with pytest.raises(ValueError, match=r"neither a number nor an age|two limits of one kind"):
        HistoryLimits.parse(text)


@pytest.mark.parametrize("kind", ["memory", "disk", REDIS])
@pytest.mark.parametrize("pinned", [False, True])
def test_the_history_is_limited(kind: str, pinned: bool, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    limits = HistoryLimits(2, 15.0)
    store: Store
    if kind == "redis":
        store = redis_store(request, tmp_path, history=limits)
    else:
        store = MemoryStore(history=limits) if kind == "memory" else DiskStore(tmp_path, history=limits)
    store.put(recording(KEY, b"at 0", stored_at=0.0))
    store.pin(KEY, pinned=pinned)
    for at in (10.0, 20.0, 30.0):
        store.put(recording(KEY, b"at %d" % at, stored_at=at))

    every = [(0.0, 10.0), (10.0, 20.0), (20.0, 30.0), (30.0, None)]
    assert times(store) == (every if pinned else every[1:])
    assert store.expire_versions(35.0) == 0
    assert store.expire_versions(36.0) == (0 if pinned else 1)
    assert times(store) == (every if pinned else every[2:])


Step = tuple[Any, ...]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(KEYS[:2]), st.sampled_from([b"one", b"two" * 50, b"three" * 99])),
        st.tuples(st.just("same"), st.sampled_from(KEYS[:2]), st.sampled_from([b"one", b"two" * 50])),
        st.tuples(st.sampled_from(["remove", "pin", "unpin", "use"]), st.sampled_from(KEYS[:2])),
        st.tuples(st.just("prune"), st.just(KEY), st.sampled_from([0.0, 0.5, 0.99])),
    ),
    max_size=30,
)


class PlainList:
    """What a store should have: for each key the texts with their times."""

    def __init__(self) -> None:
        self.versions: dict[Key, list[tuple[float, float | None, bytes]]] = {key: [] for key in KEYS[:2]}
        self.pinned: set[Key] = set()

    def has(self, key: Key) -> bool:
        return bool(self.versions[key]) and self.versions[key][-1][1] is None

    def put(self, key: Key, text: bytes, at: float, *, is_same: bool) -> None:
        begin = at
        if self.has(key):
            began, _, replaced = self.versions[key].pop()
            if is_same:
                begin = began
            else:
                self.versions[key].append((began, at, replaced))
        self.versions[key].append((begin, None, text))

    def remove(self, key: Key) -> bool:
        if not self.has(key):
            return False
        self.versions[key].pop()
        self.pinned.discard(key)
        return True

    def pin(self, key: Key, *, pinned: bool) -> bool:
        (self.pinned.add if pinned and self.has(key) else self.pinned.discard)(key)
        return self.has(key)

    def at(self, key: Key, time: float) -> bytes | None:
        found = [text for begin, end, text in self.versions[key] if begin <= time and (end is None or time < end)]
        return found[0] if found else None


@pytest.mark.parametrize("kind", ["memory", "disk", "combined", REDIS])
@settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(steps=STEPS, moments=st.lists(st.floats(0, 40), min_size=5, max_size=5))
def test_any_steps_leave_what_a_plain_list_has(
    kind: str,
    steps: list[Step],
    moments: list[float],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    model, store = PlainList(), new_store(kind, request, tmp_path_factory)
    for at, (name, key, *text) in enumerate(steps):
        if name in {"put", "same"}:
            same_as = store.entry(key) if name == "same" else None
            store.put(recording(key, *text, stored_at=float(at)), same_as=same_as)
            model.put(key, text[0], float(at), is_same=name == "same")
        elif name == "prune":
            prune_both(store, model, fraction=text[0])
        else:
            steps_of(store, model)[name](key)
    for key in KEYS[:2]:
        assert times(store, key) == [(begin, end) for begin, end, _ in model.versions[key]]
        for time in moments:
            assert text_at(store, time, key) == model.at(key, time)
    if isinstance(store, DiskStore | CombinedStore | RedisStore):
        assert list(store.verify(fix=False)) == []
        store.close()


def steps_of(store: Store, model: PlainList) -> dict[str, Callable[[Key], None]]:
    """Return what a step does with the store, and with the list."""

    def same(one: bool, other: bool) -> None:
        assert one == other

    return {
        "remove": lambda key: same(store.remove(key), model.remove(key)),
        "pin": lambda key: same(store.pin(key, pinned=True), model.pin(key, pinned=True)),
        "unpin": lambda key: same(store.pin(key, pinned=False), model.pin(key, pinned=False)),
        "use": lambda key: same(into_memory(store.get(key)) is not None, model.has(key)),
    }


def prune_both(store: Store, model: PlainList, fraction: float) -> None:
    """Evict: first versions whose heads no recording has, and nothing that is pinned."""
    versions = [one for key in KEYS[:2] for one in store.versions(key)]
    current = {one.head_name for one in versions if one.valid_until is None}
    pinned = {one.head_name for one in versions if one.pinned}
    first = {(one.key, one.valid_from) for one in versions if one.head_name not in current | pinned}
    evicted = prune(store, Limits(int(store.usage().occupied * fraction)))
    assert not {one.head_name for one in evicted} & pinned
    names = {(one.key, one.valid_from) for one in evicted}
    if names - first:
        assert first <= names
    for one in evicted:
        model.versions[one.key] = [version for version in model.versions[one.key] if version[0] != one.valid_from]


def new_store(kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    if kind == "memory":
        return MemoryStore()
    folder = tmp_path_factory.mktemp("store")
    if kind == "redis":
        return redis_store(request, folder)
    if kind == "disk":
        return DiskStore(folder)
    return CombinedStore(DiskStore(folder / "first"), [DiskStore(folder / "former")])


# -- clocks that jump -------------------------------------------------------------------------------

CLOCK_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "same", "remove"]),
        st.sampled_from([0.0, 100.0, 100.0 + 1e-7, 200.0, 1.8e9, 1.8e9 - 63e6, 1.8e10, 9e10]) | st.floats(0, 9e10),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize("kind", ["disk", REDIS])
@settings(max_examples=15, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(steps=CLOCK_STEPS)
@example(steps=[("put", 100.0), ("put", 100.0 + 1e-7), ("put", 200.0)])
def test_whatever_clocks_show_versions_are_in_order_and_none_is_lost(
    kind: str,
    steps: list[tuple[str, float]],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Times of NTP steps back, of two versions at one instant, and of a machine that was two years ahead."""
    durable = new_store(kind, request, tmp_path_factory)
    stores: list[Store] = [MemoryStore(), durable]
    texts: list[bytes] = []
    for number, (name, at) in enumerate(steps):
        current = stores[0].entry(KEY)
        if name == "remove":
            texts = texts[:-1] if current else texts
        elif name == "same" and current:
            texts[-1] = b"version %d" % number
        else:
            texts.append(b"version %d" % number)
        for store in stores:
            if name == "remove":
                store.remove(KEY)
            else:
                same_as = store.entry(KEY) if name == "same" else None
                store.put(recording(KEY, texts[-1], stored_at=at), same_as=same_as)
    for store in stores:
        found = times(store)
        assert all(end is None or begin < end for begin, end in found)
        assert all(end is not None and end <= begin for (_, end), (begin, _) in pairwise(found))
        assert [text_at(store, begin) for begin, _ in found] == texts
        assert [text_at(store, math.nextafter(end, 0.0)) for _, end in found if end is not None] == texts[: len(found)][
            : sum(end is not None for _, end in found)
        ]
    assert times(stores[0]) == times(stores[1])
    assert isinstance(durable, DiskStore | RedisStore)
    with closing(durable):
        assert all("a clock was ahead" in fault.message for fault in durable.verify(fix=False))


@pytest.mark.parametrize("kind", ["disk", REDIS])
def test_verify_reports_recordings_of_the_future_and_they_stay(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A store that was filled on a machine whose clock was two years ahead."""
    now = 1.8e9
    options: dict[str, Any] = {"clock": lambda: now}
    on_disk = kind == "disk"
    with closing(DiskStore(tmp_path, **options) if on_disk else redis_store(request, tmp_path, **options)) as store:
        store.put(recording(KEY, b"ahead", stored_at=now + 63e6))
        store.put(recording(KEYS[1], b"skewed by a minute", stored_at=now + 60.0))
        store.put(recording(KEY, b"corrected", stored_at=now))
        for _ in range(2):
            (fault,) = store.verify(fix=True)
            assert fault.subject == KEY
            assert fault.message.startswith("a clock was ahead: it is the answer since 2029-01-13T")
        assert text_at(store, now) is None
        assert text_at(store, now + 63e6) == b"ahead"
        assert text_at(store, now + 64e6) == b"corrected"


def test_verify_reports_versions_whose_times_overlap(tmp_path: Path) -> None:
    """An earlier release wrote them, where a clock was set back after a recording was removed."""
    with closing(DiskStore(tmp_path)) as store:
        store.put(recording(KEY, b"one", stored_at=200.0))
        store.put(recording(KEY, b"two", stored_at=300.0))
        store.remove(KEY)
        store.put(recording(KEY, b"three", stored_at=400.0))
        index = index_of(store)
        row = json.loads(index.get(KEY))
        with index.writing() as writable:
            writable.set(KEY, json.dumps({**row, "stored_at": 100.0, "first_stored_at": 100.0}))

        assert [fault.message for fault in store.verify(fix=True)][:1] == [
            "a clock was set back: the times of its versions overlap; as of those, the first answers"
        ]
        assert {text_at(store, 250.0) for _ in range(3)} == {b"one"}
        assert text_at(store, 150.0) == text_at(store, 350.0) == b"three"


@pytest.mark.parametrize("kind", ["memory", "disk", REDIS])
def test_a_lower_limit_removes_the_surplus_that_exists_and_counts_it(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    limits = HistoryLimits(1)
    before: Store
    if kind == "redis":
        before = redis_store(request, tmp_path)
    else:
        before = MemoryStore() if kind == "memory" else DiskStore(tmp_path)
    for key in KEYS[:3]:
        for at in range(5 if key != KEYS[2] else 2):
            before.put(recording(key, b"%d" % at, stored_at=float(at)))
    before.pin(KEYS[1], pinned=True)
    if isinstance(before, MemoryStore):
        before._history = limits
        store: Store = before
    elif kind == "redis":
        store = redis_store(request, tmp_path, history=limits)
    else:
        store = DiskStore(tmp_path, history=limits)

    assert store.expire_versions(100.0) == 3
    assert [len(store.versions(key)) for key in KEYS[:3]] == [2, 5, 2]
    assert store.expire_versions(100.0) == 0
    if isinstance(store, DiskStore | RedisStore):
        assert list(store.verify(fix=False)) == []


# -- copies of another store ------------------------------------------------------------------------


@pytest.fixture(params=["disk", REDIS])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ManagedStore]:
    opened: ManagedStore
    opened = redis_store(request, tmp_path) if request.param == "redis" else DiskStore(tmp_path / "target")
    with closing(opened):
        yield opened
        assert list(opened.verify(fix=False)) == []


def restore(source: Store, target: ManagedStore) -> None:
    """Copy the last version first, as a copy that is interrupted has it."""
    for entry in reversed(source.versions(KEY)):
        recorded = source.get_version(entry)
        assert recorded is not None
        with closing(recorded.head):
            target.restore(recorded, entry)


def test_a_copy_has_the_times_of_the_other_store(target: ManagedStore) -> None:
    source = MemoryStore()
    source.put(recording(KEY, b"one", stored_at=10.0))
    source.put(recording(KEY, b"ONE", stored_at=20.0), same_as=source.entry(KEY))
    source.put(recording(KEY, b"two", stored_at=30.0))
    source.put(recording(KEY, b"three", stored_at=35.0))
    source.remove(KEY)
    source.put(recording(KEY, b"four", stored_at=40.0))
    source.put(recording(KEY, b"FOUR", stored_at=50.0), same_as=source.entry(KEY))

    for _ in range(2):
        restore(source, target)

        assert times(target) == times(source) == [(10.0, 30.0), (30.0, 35.0), (40.0, None)]
        assert [text_at(target, at) for at in (10.0, 32.0, 36.0, 45.0)] == [b"ONE", b"two", None, b"FOUR"]
    assert target.usage().recordings == 1
    assert target.history_usage().versions == 2


def test_what_a_copy_replaces_becomes_an_earlier_version(target: ManagedStore) -> None:
    source = MemoryStore()
    source.put(recording(KEY, b"new", stored_at=40.0))
    source.put(recording(KEY, b"NEW", stored_at=50.0), same_as=source.entry(KEY))
    target.put(recording(KEY, b"of the target", stored_at=20.0))
    target.pin(KEY, pinned=True)

    restore(source, target)
    assert times(target) == [(20.0, 40.0), (40.0, None)]
    assert [one.pinned for one in target.versions(KEY)] == [True, True]

    target.put(recording(KEY, b"later", stored_at=45.0))
    restore(source, target)
    assert [text_at(target, one.valid_from) for one in target.versions(KEY)] == [
        b"of the target",
        b"NEW",
        b"later",
        b"NEW",
    ]


# -- on disk ----------------------------------------------------------------------------------------


def test_versions_survive_that_the_store_is_closed(tmp_path: Path) -> None:
    with closing(DiskStore(tmp_path)) as store:
        store.put(recording(KEY, b"one", stored_at=10.25))
        store.put(recording(KEY, b"two", stored_at=20.0))

    with closing(DiskStore(tmp_path)) as store:
        assert times(store) == [(10.25, 20.0), (20.0, None)]
        assert text_at(store, 11.0) == b"one"
        assert list(store.verify(fix=True)) == []


def test_a_damaged_version_is_found_and_removed(tmp_path: Path) -> None:
    with closing(DiskStore(tmp_path)) as store:
        for at in (10.0, 20.0, 30.0):
            store.put(recording(KEY, b"at %d" % at, stored_at=at))
        first, second, _ = store.versions(KEY)
        store._folder.heads.path(first.head_name).write_bytes(b"damaged")

        (fault,) = store.verify(fix=False)
        assert fault.message == "an earlier version is damaged: its head was changed"
        assert store.get_version(first) is None
        assert store.damaged == 1
        assert times(store) == [(20.0, 30.0), (30.0, None)]
        store._folder.heads.path(second.head_name).unlink()
        assert len(list(store.verify(fix=True))) == 1
        assert times(store) == [(30.0, None)]
        assert list(store.verify(fix=False)) == []


def test_a_former_address_keeps_its_versions(tmp_path: Path) -> None:
    with closing(DiskStore(tmp_path / "former")) as former:
        former.put(recording(KEY, b"one", stored_at=10.0))
        former.put(recording(KEY, b"two", stored_at=20.0))
    stores = [DiskStore(tmp_path / name) for name in ("first", "former")]
    with closing(CombinedStore(stores[0], stores[1:])) as store:
        assert times(store) == [(10.0, 20.0), (20.0, None)]

        store.put(recording(KEY, b"TWO", stored_at=30.0), same_as=store.entry(KEY))
        assert times(store) == [(10.0, 20.0), (20.0, None)]
        store.put(recording(KEY, b"three", stored_at=40.0))

        assert times(store) == [(10.0, 20.0), (20.0, 40.0), (40.0, None)]
        assert [text_at(store, at) for at in (10.0, 20.0, 40.0)] == [b"one", b"TWO", b"three"]
        assert list(store.verify(fix=False)) == []


def test_other_releases_leave_versions_and_their_heads_alone(tmp_path: Path) -> None:
    """What a release without a history knows of versions: rows of another format, with a head."""
    from oda_proxy.store import index_keys, rows

    with closing(DiskStore(tmp_path)) as store:
        store.put(recording(KEY, b"one", stored_at=10.0))
        store.put(recording(KEY, b"two", stored_at=20.0))
        index = index_of(store)
        (row_key,) = [one for one in index if one.startswith(index_keys.VERSION_PREFIX)]
        text = index.get(row_key)

        other = rows.loads_other(text)

        assert row_key.startswith("format-")
        assert not row_key.startswith(index_keys.aside_prefix())
        assert other is not None
        assert other.head == (store.versions(KEY)[0].head_name, store.versions(KEY)[0].stored_size)
        assert store.other_recordings().recordings == 0
        assert store.remove_other_recordings() == 0
        assert len(times(store)) == 2
