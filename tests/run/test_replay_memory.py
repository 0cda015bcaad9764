"""The memory of a replay does not grow with its capsule: the short form of tests/soak/capsule_memory.py."""

from __future__ import annotations

import tarfile
import tracemalloc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from oda_proxy.capsule.output import capsule_output
from oda_proxy.http.message import Request
from oda_proxy.run import replayer as replayer_module
from oda_proxy.run.replayer import replaying
from tests.support import capsules
from tests.support.dispatcher_responses import SESSION
from tests.support.unreadable_responses import product, unit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from oda_proxy.http.answer import Answer

ARRAY = np.random.default_rng(1).random(2**16)
"""512 KiB that cannot be compressed."""
FEW, MANY = 3, 12


@asynccontextmanager
async def no_listener(_: Any) -> AsyncIterator[Any]:
    yield None


async def drain(answer: Answer) -> int:
    """Read an answer in pieces, and return its size in bytes."""
    if isinstance(answer.body, tuple):
        return sum(map(len, answer.body))
    return sum([len(piece) async for piece in answer.body])


def write(target: Path, count: int) -> None:
    """Write a capsule with recordings of 512 KiB, as a folder, a zip file or a compressed tar file."""
    folder = target.with_suffix("").with_suffix("") if target.suffix == ".gz" else target
    with capsule_output(folder) as staged:
        writer, dispatcher = capsules.begun(staged)
        for number in range(count):
            arrays = [product(unit(ARRAY + number), name="array")]
            dispatcher.save_recording(capsules.recorded(capsules.query(RA=str(number)), numpy_data_product_list=arrays))
        writer.finish(0)
    if folder != target:
        with tarfile.open(target, "w:gz", compresslevel=1) as archive:
            archive.add(folder, ".")


async def peak(archive: Path, count: int) -> int:
    """Replay all recordings of an archive, and return the most memory that was allocated meanwhile, in bytes."""
    tracemalloc.start()
    try:
        async with replaying(archive, listen=no_listener) as replayed:
            for number in range(count):
                query = f"instrument=isgri&product_type=isgri_image&query_type=Real&api=True&RA={number}"
                sent = Request("GET", "/run_analysis", f"{query}&query_status=new&session_id={SESSION}")
                answer = await replayed.answer_dispatcher(capsules.URL, sent, origin="http://here")
                assert await drain(answer) > ARRAY.nbytes
            assert not replayed.missed
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
async def test_a_replay_of_four_times_as_much_takes_no_more_memory(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replayer_module, "MAX_IN_MEMORY", 2**20)
    few, many = tmp_path / f"few.{suffix}", tmp_path / f"many.{suffix}"
    write(few, FEW)
    write(many, MANY)
    start, with_many = await peak(few, FEW), await peak(many, MANY)  # the first one imports, too

    assert with_many - start < ARRAY.nbytes * (MANY - FEW) / 4, (start, with_many)
