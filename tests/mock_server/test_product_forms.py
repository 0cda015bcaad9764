"""Shipped products have the names, order and meta data of those of dispatcher 1.3.6 in recorded exchanges."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from mock_server.app import make_app
from mock_server.settings import MockSettings
from tests.support.paths import CAPTURES, FIXTURES

if TYPE_CHECKING:
    from collections.abc import Mapping

SHIPPED = {
    "isgri_image": "isgri/isgri_image/4u1700-377-dummy",
    "isgri_lc": "isgri/isgri_lc/4u1700-377",
    "polar_lc": "polar/polar_lc/2016-12-18",
    "spi_acs_lc": "spi_acs/spi_acs_lc/2003-03-15",
}
FOR_OLD_CLIENTS = "query_parameters"
"""Meta data that 1.3.6 has as null."""


def form(products: Mapping[str, Any]) -> list[Any]:
    """Return what a client sees of products without their arrays."""
    found: list[Any] = [*products, products["input_prod_list"], len(products.get("binary_data_product_list", []))]
    for product in products["numpy_data_product_list"][:1]:
        meta_data = json.loads(product["meta_data"])
        found += [
            product["name"] or "",
            sorted((name, meta_data[name]) for name in meta_data.keys() - {FOR_OLD_CLIENTS}),
        ]
        found += [(unit["name"], unit["hdu_type"], unit["units_dict"]) for unit in product["data_unit_list"]]
    return found


@pytest.mark.parametrize("product", SHIPPED)
async def test_a_client_gets_products_in_the_form_of_the_dispatcher(product: str) -> None:
    recorded = json.loads(gzip.decompress((CAPTURES / f"{product}.200.json.gz").read_bytes()))["products"]
    query = json.loads((FIXTURES / SHIPPED[product] / "query.json").read_text())
    params = {name: str(value) for name, value in query["parameters"].items()}
    params |= {"instrument": query["instrument"], "product_type": product, "query_type": query["query_type"]}
    async with (
        TestClient(TestServer(make_app(MockSettings(time_scale=0)))) as client,
        client.get("/run_analysis", params={**params, "query_status": "new", "api": "True"}) as response,
    ):
        answer = await response.json()
    assert answer["query_status"] == "done"
    assert form(answer["products"]) == form(recorded)
