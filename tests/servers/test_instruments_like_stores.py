"""`oda-proxy mock --like` over what a proxy stored, and over a running proxy, as a person uses them."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

import oda_proxy
from oda_proxy.fixture.description_folder import write_descriptions
from oda_proxy.servers.instruments_like import instruments_like

if TYPE_CHECKING:
    from pathlib import Path

TELESCOPE = {
    "instrument": "tel",
    "prod_dict": {"spectrum": "spectrum_query"},
    "queries": [
        {"query_name": "src_query", "parameters": [{"name": "src_name", "units": "str", "value": "Crab"}]},
        {
            "query_name": "spectrum_query",
            "product_name": "spectrum",
            "parameters": [{"name": "Emin", "units": "TeV", "value": 1.0, "kind": "energy"}],
            "outputs": [{"name": "flux", "kind": "ascii_table", "columns": {"E": "TeV"}, "size": 5}],
        },
    ],
}
QUERY = {"instrument": "tel", "product_type": "spectrum", "query_type": "Real", "query_status": "new"}
QUERY |= {"api": "True", "oda_api_version": "1.3.5", "session_id": "S", "Emin": "2.0"}


def get(url: str, route: str, **query: str) -> Any:
    with urlopen(f"{url}/{route}?{urlencode(query)}") as response:  # noqa: S310 - an address on this machine
        return json.load(response)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with recordings and a capsule of a telescope, and the descriptions that its proxy returns."""
    folder = tmp_path_factory.mktemp("store")
    with (
        oda_proxy.mocking() as mock,
        oda_proxy.serving(mock, cache_dir=str(folder / "cache")) as proxy,
    ):
        oda_proxy.MockControl(mock).describe(TELESCOPE)
        described = asyncio.run(instruments_like(proxy))
        write_descriptions(folder / "of_proxy", described)
        assert get(proxy, "run_analysis", **QUERY)["query_status"] == "done"
        with oda_proxy.recording(folder / "capsule", upstream=mock) as recorder:
            get(recorder, "api/meta-data", instrument="tel")
            get(recorder, "run_analysis", **QUERY)
    shutil.make_archive(str(folder / "capsule"), "zip", folder / "capsule")
    return folder


def test_a_running_proxy_describes_the_instruments_of_its_dispatcher_also_one_that_was_added_later(store: Path) -> None:
    described = json.loads((store / "of_proxy" / "tel.json").read_text())
    assert described["prod_dict"] == TELESCOPE["prod_dict"]
    assert {file.stem for file in (store / "of_proxy").iterdir()} >= {"tel", "isgri", "jemx", "polar", "spi_acs"}


def test_a_folder_of_recordings_describes_instruments_without_their_outputs(store: Path) -> None:
    described = {one.name: one for one in asyncio.run(instruments_like(str(store / "cache")))}
    assert described["tel"].queries[1].parameters[0].name == "Emin"
    assert described["tel"].queries[1].outputs is None


@pytest.mark.parametrize("name", ["capsule", "capsule.zip"])
def test_a_mock_like_a_capsule_makes_up_the_product_that_was_recorded(store: Path, name: str) -> None:
    folder = store / f"descriptions of {name}"
    described = asyncio.run(instruments_like(str(store / name)))
    write_descriptions(folder, described)
    with oda_proxy.mocking(descriptions=folder) as url:
        assert "tel" in get(url, "instr-list")
        (table,) = get(url, "run_analysis", **{**QUERY, "Emin": "3.0"})["products"]["astropy_table_product_ascii_list"]
        assert table["name"] == "flux"
