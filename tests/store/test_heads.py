"""Large heads are checked before they are served: quickly, where their row has a checksum."""

from __future__ import annotations

import base64
import json
import os
import random
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import zstandard

from oda_proxy.store.disk import DiskStore
from oda_proxy.store.heads import SMALL, CompressedHeadWriter, Heads
from tests.support.recordings import KEYS, into_memory, recording
from tests.support.stores import index_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGE = recording(text=random.Random(1).randbytes(2 * SMALL))  # noqa: S311 - a text that is not compressible


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    with closing(DiskStore(tmp_path)) as store:
        store.put(LARGE)
        yield store


def head_file(folder: Path) -> Path:
    (file,) = (folder / "heads").glob("*/*")
    return file


def as_of_an_earlier_release(store: DiskStore) -> None:
    """Remove what earlier releases do not write."""
    row = json.loads(index_of(store).get(KEYS[0]))
    del row["head"]["xxh3_128"]
    index_of(store).set(KEYS[0], json.dumps(row, separators=(",", ":")))


@pytest.mark.parametrize("is_old", [False, True])
def test_a_large_head_that_was_changed_or_cut_is_never_served(
    store: DiskStore,
    tmp_path: Path,
    is_old: bool,
) -> None:
    file = head_file(tmp_path)
    whole, generator = file.read_bytes(), random.Random(2)  # noqa: S311 - places
    places = [0, 4, 5, len(whole) // 2, len(whole) - 1, *(generator.randrange(len(whole)) for _ in range(8))]

    for place in places:
        damages = (whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        for damaged in (*damages, whole + b"x"):
            if is_old:
                as_of_an_earlier_release(store)
            file.write_bytes(damaged)
            assert store.get(KEYS[0]) is None, place
            store.put(LARGE)
    assert into_memory(store.get(KEYS[0])) == LARGE


def test_the_digest_of_a_large_head_is_not_computed_for_each_hit(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oda_proxy.store.heads.hashlib", None)

    assert into_memory(store.get(KEYS[0])) == LARGE


def test_a_large_head_that_an_earlier_release_has_stored_is_served(store: DiskStore) -> None:
    as_of_an_earlier_release(store)

    assert into_memory(store.get(KEYS[0])) == LARGE
    assert list(store.verify(fix=False)) == []


def test_a_checksum_that_is_damaged_serves_nothing(store: DiskStore) -> None:
    row = index_of(store).get(KEYS[0])
    index_of(store).set(KEYS[0], row.replace('"xxh3_128":"', '"xxh3_128":"0'))

    assert store.get(KEYS[0]) is None


def test_a_large_head_is_compressed_without_entropy_coding_where_that_hardly_makes_it_smaller(tmp_path: Path) -> None:
    noise = base64.b64encode(random.Random(1).randbytes(1_500_000))  # noqa: S311 - an array
    stored_sizes = {}
    for text in (noise, b"%b%b" % (noise[:10_000], bytes(len(noise))), noise[:100_000]):
        writer = CompressedHeadWriter(2_000_000)
        for at in range(0, len(text), 300_000):
            writer.write(text[at : at + 300_000])
        head = Heads(tmp_path).write(writer.finish())
        with head.temporary.open("rb") as file:
            content = file.read()
        assert zstandard.ZstdDecompressor().decompress(content) == text  # in one frame that has its size
        stored_sizes[text] = len(content) / len(text)
    of_noise, of_patterns, of_little_noise = stored_sizes.values()
    assert of_noise == pytest.approx(1, abs=0.01)
    assert of_patterns < 0.01
    assert of_little_noise == pytest.approx(1, abs=0.01)


def test_verify_compares_digests(store: DiskStore, tmp_path: Path) -> None:
    file = head_file(tmp_path)
    other = recording(KEYS[1], os.urandom(2 * SMALL))
    store.put(other)
    (stored,) = (one for one in (tmp_path / "heads").glob("*/*") if one != file)
    checksum = json.loads(index_of(store).get(KEYS[1]))["head"]["xxh3_128"]
    row = json.loads(index_of(store).get(KEYS[0]))
    row["head"]["xxh3_128"] = checksum
    index_of(store).set(KEYS[0], json.dumps(row, separators=(",", ":")))
    file.write_bytes(stored.read_bytes())  # the file and its checksum, but not its name

    assert [fault.subject for fault in store.verify(fix=False)] == [KEYS[0]]
