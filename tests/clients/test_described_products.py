"""Unmodified clients get, decode and use every product of the public instruments, which are only described."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp.test_utils import TestServer

from mock_server.app import RUNNER_OPTIONS, make_app
from mock_server.settings import MockSettings
from oda_proxy.fixture.description_folder import read_descriptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from oda_proxy.fixture.model import QueryDescription

pytestmark = pytest.mark.real

SETTINGS: Final = MockSettings(public_instruments=True, synthetic=True, time_scale=0)
IGNORED: Final = frozenset({"picture", "text", "gw_strain", "gw_spectrogram", "gw_skymap"})
"""Kinds of outputs that oda_api does not know up to 1.1.0: it returns the others."""
TIMES: Final = {"T1": "2004-03-15T23:27:40.000", "T2": "2004-03-16T00:03:15.000"}
WITHOUT_FRAME: Final = {("gw", "gw_skymap_image"), ("legacysurvey", "legacy_survey_image")}
"""Products with a catalogue without a frame, as their plugins make it: oda_api fails on it up to 1.1.0."""
BINARY_OBJECTS: Final = {("cta", "pre_defined_model"), ("cta", "model_cube_file")}
"""Products with a file as an object, as nb2workflow makes it: oda_api 1.1.0 wants a text. The mock sends one to 1.0."""
UNREAD: Final = {"1.0": WITHOUT_FRAME, "1.1.0": WITHOUT_FRAME | BINARY_OBJECTS}
UNDRAWN: Final = {"1.2.1": "`np.NaN` was removed in the NumPy 2.0 release"}
"""Why a release cannot draw the mosaic."""
PRODUCTS: Final = [
    (instrument.name, query)
    for instrument in read_descriptions(SETTINGS.description_folders[0])
    for query in instrument.queries
    if query.product_name is not None
]


def arguments(instrument: str, query: QueryDescription) -> dict[str, Any]:
    return {"instrument": instrument, "product": query.product_name, "product_type": "Real"}


def expected(query: QueryDescription, version: str) -> int:
    """Return how many products a client makes of the outputs."""
    kinds = [output.kind for output in query.outputs or () if output.kind != "comment"]
    if version in ("1.0", "1.1.0"):
        return sum(kind not in IGNORED for kind in kinds)
    return sum({"gw_strain": 2, "gw_skymap": 2}.get(kind, 1) for kind in kinds)


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    started = TestServer(make_app(SETTINGS))
    await started.start_server(**RUNNER_OPTIONS)
    yield started
    await started.close()


@pytest.mark.parametrize("version", ["1.3.5", "1.2.42", "1.2.1", "1.1.0", "1.0"])
async def test_every_product_of_every_public_instrument_and_a_mosaic_of_isgri_are_decoded_and_used(
    run_client: Callable[..., Any], server: TestServer, version: str
) -> None:
    url, queries = str(server.make_url("/dispatch-data")), [arguments(*one) for one in PRODUCTS]
    queries.append({"instrument": "isgri", "product": "isgri_image", "product_type": "Real", **TIMES})
    *answers, mosaic = await asyncio.to_thread(run_client, version, "described_products.py", url, json.dumps(queries))
    assert UNDRAWN.get(version, "") in mosaic.get("error", ""), mosaic
    assert ("error" in mosaic) == (version in UNDRAWN), mosaic
    got = {(name, query.product_name): answer for (name, query), answer in zip(PRODUCTS, answers, strict=True)}
    assert len({name for name, _ in got}) >= 10
    errors = {place: answer["error"] for place, answer in got.items() if "error" in answer}
    assert errors.keys() == UNREAD.get(version, set()), errors
    counts = {(name, query.product_name): expected(query, version) for name, query in PRODUCTS}
    counted = {place: len(answer["names"]) for place, answer in got.items() if place not in errors}
    assert counted == {place: count for place, count in counts.items() if place not in errors}
    if version == "1.3.5":
        assert got["sgwb", "Model_spectrum"]["names"] == ["astropy_table_0", "png_1"]
        assert got["legacysurvey", "legacy_survey_image"]["names"] == ["mosaic_image_0_mosaic", "dispatcher_catalog_1"]
        assert got["gw", "gw_strain"]["names"] == ["Strain_0", "Strain_bp_1"]
        assert got["antares", "antares_spectrum"]["names"] == ["src_0", "src_1"]


async def test_the_client_draws_spectra_of_isgri_and_jem_x(run_client: Callable[..., Any], server: TestServer) -> None:
    url = str(server.make_url("/dispatch-data"))
    queries = [
        {"instrument": instrument, "product": f"{instrument}_spectrum", "product_type": "Real", **TIMES}
        for instrument in ("isgri", "jemx")
    ]
    answers = await asyncio.to_thread(run_client, "1.3.5", "described_products.py", url, json.dumps(queries))
    assert [answer.get("error") for answer in answers] == [None, None]
