"""Requests without `api` get pictures and names of files, which `/download_products` sends, also of made-up outputs."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from astropy.io import fits
from astropy.table import Table

from mock_server.app import make_app
from mock_server.settings import MockSettings
from mock_server.synthetic.output_names import file_names
from oda_proxy.fixture.description_folder import read_descriptions
from oda_proxy.fixture.model import OutputDescription
from tests.support.paths import FIXTURES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SESSION = "WEBPAGEWEBPAGEWE"
SHIPPED = {
    "isgri_image": "isgri/isgri_image/4u1700-377",
    "isgri_lc": "isgri/isgri_lc/4u1700-377",
    "isgri_spectrum": "isgri/isgri_spectrum/4u1700-377",
    "jemx_image": "jemx/jemx_image/010200230010",
    "jemx_lc": "jemx/jemx_lc/010200230010",
    "jemx_spectrum": "jemx/jemx_spectrum/010200230010",
    "polar_lc": "polar/polar_lc/2016-12-18",
    "spi_acs_lc": "spi_acs/spi_acs_lc/2003-03-15",
}
IMAGE = ["image", "catalog", "file_name", "download_file_name"]
CURVE = ["name", "file_name", "image", "download_file_name"]
SPECTRUM = ["spectrum_name", "ph_file_name", "arf_file_name", "rmf_file_name", "download_file_name"]
MEMBERS = {
    "isgri_image": IMAGE,
    "isgri_lc": CURVE,
    "isgri_spectrum": SPECTRUM,
    "jemx_image": IMAGE,
    "jemx_lc": CURVE,
    "jemx_spectrum": SPECTRUM,
    "polar_lc": ["name", "file_name", "root_file_name", "image", "download_file_name"],
    "spi_acs_lc": CURVE,
}


@pytest.fixture
async def mock() -> AsyncIterator[TestClient[Any, Any]]:
    settings = MockSettings(time_scale=0, synthetic=True, public_instruments=True)
    async with TestClient(TestServer(make_app(settings))) as client:
        yield client


def query_of(product: str, **changes: str) -> dict[str, str]:
    query = json.loads((FIXTURES / SHIPPED[product] / "query.json").read_text())
    parameters = {
        name: ",".join(value) if isinstance(value, list) else str(value) for name, value in query["parameters"].items()
    }
    return {"instrument": query["instrument"], "product_type": product, "query_type": "Real", **parameters, **changes}


async def products_of(mock: TestClient[Any, Any], query: dict[str, str]) -> dict[str, Any]:
    params = {**query, "query_status": "new", "session_id": SESSION}
    async with mock.get("/run_analysis", params=params) as response:
        answer = await response.json()
    assert answer["query_status"] == "done", answer
    products: dict[str, Any] = answer["products"]
    return products


async def download(mock: TestClient[Any, Any], products: dict[str, Any], *names: str) -> bytes:
    params = {
        "session_id": SESSION,
        "job_id": products["job_id"],
        "query_status": "ready",
        "file_list": ",".join(names),
    }
    params["download_file_name"] = "files.gz"
    async with mock.get("/download_products", params=params) as response:
        assert response.status == 200
        return gzip.decompress(await response.read())


def pictures(image: dict[str, Any]) -> list[bytes]:
    assert list(image) == ["image", "header_text", "table_text", "footer_text"]
    found = re.findall('data:image/png;base64,([^"]+)', image["image"]["div"])
    return [base64.b64decode(text) for text in found]


@pytest.mark.parametrize("changes", [{}, {"radius": "4.0"}], ids=["shipped", "made up"])
@pytest.mark.parametrize("product", SHIPPED)
async def test_a_page_gets_the_members_of_the_dispatcher_with_a_picture_of_each_product(
    mock: TestClient[Any, Any], product: str, changes: dict[str, str]
) -> None:
    products = await products_of(mock, query_of(product, **changes))
    members = MEMBERS[product]
    assert list(products)[: len(members)] == members
    assert list(products)[len(members)] == "prod_process_message"
    images = products.get("image", [])
    for image in [images] if isinstance(images, dict) else images:
        (picture,) = pictures(image)
        assert picture.startswith(b"\x89PNG")


@pytest.mark.parametrize("changes", [{}, {"radius": "4.0"}], ids=["shipped", "made up"])
@pytest.mark.parametrize("product", SHIPPED)
async def test_the_files_that_a_page_is_told_of_are_downloaded_one_by_one_and_as_an_archive(
    mock: TestClient[Any, Any], product: str, changes: dict[str, str]
) -> None:
    products = await products_of(mock, query_of(product, **changes))
    listed = [products[name] for name in products if name.endswith("file_name") and name != "download_file_name"]
    names = list(dict.fromkeys(name for one in listed for name in ([one] if isinstance(one, str) else one)))
    for name in names:
        content = await download(mock, products, name)
        if name.endswith(".fits"):
            with fits.open(io.BytesIO(content)) as opened:
                assert len(opened) > 1
    if len(names) > 1:
        with tarfile.open(fileobj=io.BytesIO(await download(mock, products, *names))) as archive:
            assert [name.rpartition("/")[2] for name in archive.getnames()] == names


async def test_made_up_outputs_of_all_kinds_are_downloaded_in_files_of_their_kinds(mock: TestClient[Any, Any]) -> None:
    seen: set[str] = set()
    for instrument in read_descriptions(MockSettings(public_instruments=True).description_folders[0]):
        for query in instrument.queries:
            names = list(filter(None, file_names(query.outputs or ())))
            endings = {name.rpartition(".")[2] for name in names}
            if query.product_name is None or endings <= seen:
                continue
            seen |= endings
            params = {"instrument": instrument.name, "product_type": query.product_name, "query_type": "Real"}
            products = await products_of(mock, params)
            assert list(products)[:5] == ["file_name", "image", "name", "download_file_name", "prod_process_message"]
            assert products["file_name"] == names
            images = products["image"] if isinstance(products["image"], list) else [products["image"]]
            assert len(images) == len(products["name"]) >= len(names)
            assert all(list(one["image"]) == ["div", "script"] for one in images)
            for name in names:
                check_content(name, await download(mock, products, name))
    assert seen >= {"fits", "ecsv", "png"}


def check_content(name: str, content: bytes) -> None:
    match name.rpartition(".")[2]:
        case "fits":
            with fits.open(io.BytesIO(content)) as opened:
                opened.verify("exception")
        case "ecsv":
            assert len(Table.read(io.BytesIO(content), format="ascii.ecsv"))
        case "png":
            assert content.startswith(b"\x89PNG")
        case _:
            assert content


def test_files_of_outputs_have_different_safe_names() -> None:
    outputs = [OutputDescription(name, kind) for name, kind in (("a b/../c", "image"), ("", "text"), ("", "text"))]
    assert file_names([*outputs, OutputDescription("remark", "comment")]) == [
        "a_b_.._c.fits",
        "text",
        "text_2",
        "",
    ]
