"""Recorded queries are rerun, and differences of their results reported."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestServer

from mock_server.app import make_app
from mock_server.settings import MockSettings
from oda_proxy.codec import wire
from oda_proxy.drift.comparison import ProductComparison, Verdict
from oda_proxy.drift.differences import EXACT, Difference, Tolerance
from oda_proxy.drift.drifts import Drift, Outcome, drift_of, drifts
from oda_proxy.drift.sources import NamedRecording, Unusable, recordings_in
from oda_proxy.files.trees import FolderTree
from oda_proxy.query.query import parse_fields, split_query
from oda_proxy.recordings.obstacles import rerun_obstacle
from tests.support.dispatcher_responses import answer
from tests.support.fixture_folders import copy_fixtures, products_of_fixture, rewrite_fixture
from tests.support.mock_fixtures import failure_of, write_folder, write_json, write_manifest_again
from tests.support.recordings import recording
from tests.support.reruns import Scripted, ignore, no_sleep, query, recorded_from, rerun_with, state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

IMAGE = "jemx/jemx_image/010200230010"
CURVES = "polar/polar_lc/2016-12-18"


@asynccontextmanager
async def mock(folder: Path) -> AsyncIterator[str]:
    async with TestServer(make_app(MockSettings(fixtures=(folder,), time_scale=0.0))) as server:
        yield str(server.make_url("")).rstrip("/")


async def rerun_all(
    recorded: Path | Iterable[NamedRecording | Unusable], served: Path, tolerance: Tolerance = EXACT
) -> list[Drift]:
    """Rerun the recordings of one folder at a mock with the fixtures of another."""
    if isinstance(recorded, Path):
        [(_, recorded)] = recordings_in(FolderTree(recorded))
    async with mock(served) as url:
        return [one async for one in drifts(recorded, url, tolerance, on_progress=ignore, sleep=no_sleep)]


# -- what is compared ------------------------------------------------------------------------------


async def test_unchanged_results_have_no_drift(tmp_path: Path) -> None:
    folder = copy_fixtures(tmp_path / "recorded", IMAGE, CURVES)

    found = await rerun_all(folder, folder)

    assert [(one.name, one.outcome) for one in found] == [(IMAGE, Outcome.SAME), (CURVES, Outcome.SAME)]
    assert all(product.verdict is Verdict.SAME for one in found for product in one.products)


async def test_differences_are_reported_with_their_size(tmp_path: Path) -> None:
    recorded, served = (copy_fixtures(tmp_path / name, IMAGE) for name in ("recorded", "served"))
    products = products_of_fixture(served, IMAGE)
    image = wire.decode_product(products["numpy_data_product_list"][0])
    number, unit = next((n, unit) for n, unit in enumerate(image.units) if unit.data is not None)
    data = unit.data.copy() if unit.data is not None else None
    assert data is not None
    data[10, 20] += 0.5
    units = (*image.units[:number], replace(unit, data=data), *image.units[number + 1 :])
    catalog = json.loads(json.dumps(products["catalog"]))
    column = catalog["cat_column_names"].index("src_names")
    catalog["cat_column_list"][column][0] = "another"
    rewrite_fixture(
        served,
        IMAGE,
        numpy_data_product_list=[wire.encode_product(replace(image, units=units))],
        catalog=catalog,
        text_product_list=[{"name": "log", "value": "new", "meta_data": {}}],
    )

    [found] = await rerun_all(recorded, served)

    assert found.outcome is Outcome.DIFFERS
    changed, names, text = found.products
    [difference] = changed.differences
    assert f"1 of {data.size} values differ, by up to 0.5 (at pixel (21, 11): was " in difference.text
    assert difference.absolute == pytest.approx(0.5)
    assert names.differences[0].where == "column src_names, row 1"
    assert text == ProductComparison("text_product log", Verdict.NEW)
    assert (await rerun_all(recorded, served, Tolerance(atol=0.6)))[0].products[0].verdict is Verdict.SAME


async def test_a_missing_product_is_named(tmp_path: Path) -> None:
    recorded, served = (copy_fixtures(tmp_path / name, CURVES) for name in ("recorded", "served"))
    rewrite_fixture(served, CURVES, binary_data_product_list=None)

    [found] = await rerun_all(recorded, served)

    assert found.outcome is Outcome.DIFFERS
    assert [one.name for one in found.products if one.verdict is Verdict.GONE] == ["binary_data_product"]


async def test_a_failed_rerun_is_reported_with_the_message_of_the_dispatcher(tmp_path: Path) -> None:
    recorded, served = write_folder(tmp_path / "recorded"), write_folder(tmp_path / "served")
    write_json(served / "polar/polar_lc/one/answer.json", failure_of("no such time", []))
    write_manifest_again(served)

    found = {one.name: one for one in await rerun_all(recorded, served)}

    assert found["polar/polar_lc/one"] == Drift("polar/polar_lc/one", Outcome.FAILED, "no such time")
    assert found["isgri/isgri_image/one"].outcome is Outcome.SAME


async def test_a_fixture_of_a_failure_is_skipped(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "recorded")

    found = {one.name: one for one in await rerun_all(folder, folder)}

    assert found["isgri/isgri_lc/one"].outcome is Outcome.SKIPPED
    assert "failures are not stored" in found["isgri/isgri_lc/one"].reason


def recorded_of(folder: Path, **changes: Any) -> NamedRecording:
    """Return the light curve of `mock_folders` as a recording."""
    [(_, several)] = recordings_in(FolderTree(folder))
    [one] = [one for one in several if isinstance(one, NamedRecording) and one.name == "polar/polar_lc/one"]
    return replace(one, **changes)


async def test_a_private_recording_is_skipped(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "served")
    one = recorded_of(folder)

    [found] = await rerun_all([replace(one, recording=replace(one.recording, private=True))], folder)

    assert (found.outcome, found.reason) == (Outcome.SKIPPED, "it was requested with a token, and no token is sent")


async def test_a_query_that_cannot_be_rerun_is_skipped(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "served")
    uploaded = replace(query(), files=(("user_catalog_file", "0" * 64),))
    several = [NamedRecording(str(n), recording(query=one), has_echo=False) for n, one in enumerate((None, uploaded))]

    found = await rerun_all(several, folder)

    assert [one.outcome for one in found] == [Outcome.SKIPPED, Outcome.SKIPPED]
    assert rerun_obstacle(query("src_name=(removed)")) == "an e-mail address was removed from the recorded query"
    assert rerun_obstacle(query()) == ""


async def test_parameters_that_the_dispatcher_changed_are_reported(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "served")
    one = recorded_of(folder)
    echo = {"time_bin": 0.25, "verbose": "False", "instrument": "polar", "product_type": "polar_lc"}
    recorded = replace(one.recording, parameters={"analysis_parameters": echo})

    [found] = await rerun_all([replace(one, recording=recorded, has_echo=True)], folder)

    assert found.outcome is Outcome.DIFFERS
    assert Difference("time_bin", "was 0.25, is 0.5", 0.25, 1.0) in found.parameters
    assert all(difference.where != "verbose" for difference in found.parameters)


async def test_parameters_are_compared_with_the_query_if_no_echo_was_recorded(tmp_path: Path) -> None:
    products = {"text_product_list": [], "analysis_parameters": {"time_bin": 0.5}}
    upstream = Scripted([{**state("done"), "products": products}])
    one = NamedRecording("one", recording(query=query("time_bin=2")), has_echo=False)

    found = await drift_of(one, rerun_with(upstream), EXACT, ignore)

    assert found.parameters == (Difference("time_bin", "requested 2, used 0.5"),)


async def test_a_recording_that_cannot_be_decoded_is_reported() -> None:
    one = NamedRecording("one", recording(text=b'"numpy_data_product_list":[1]', query=query()), has_echo=False)
    upstream = Scripted([answer()])

    found = await drift_of(one, rerun_with(upstream), EXACT, ignore)

    assert found == Drift("one", Outcome.FAILED, "a product is not an object")


@pytest.mark.real
@pytest.mark.parametrize("product", ["dummy", "parametrical"])
async def test_a_real_dispatcher_has_no_drift(dispatcher_url: str, product: str) -> None:
    words = f"instrument=empty&product_type={product}&query_type=Dummy&api=True&RA=83.63"
    recorded = await recorded_from(dispatcher_url, split_query(parse_fields(words))[0])

    found = [
        one
        async for one in drifts(
            [NamedRecording("one", recorded, has_echo=True)], dispatcher_url, EXACT, on_progress=ignore
        )
    ]

    assert found[0].outcome is Outcome.SAME
    assert found[0].products
    assert all(product.verdict is Verdict.SAME for product in found[0].products)
