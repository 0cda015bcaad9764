"""The same query has another answer after a new calibration."""

from __future__ import annotations

import json

import numpy as np

from mock_server.recalibration import recalibrated
from oda_proxy.codec import wire
from oda_proxy.codec.product import DataProduct, DataUnit


def test_values_are_multiplied_and_times_are_not() -> None:
    rows = np.array([(50000.0, 2.0, 3)], dtype=[("TIME", ">f8"), ("RATE", ">f4"), ("N", ">i2")])
    units = (DataUnit("LC", (), rows, "bintable"), DataUnit("MAP", (), np.array([2.0]), "image"))
    body = json.dumps({"products": {"numpy_data_product_list": [wire.encode_product(DataProduct("lc", {}, units))]}})

    (product,) = json.loads(recalibrated(body.encode(), 1.5))["products"]["numpy_data_product_list"]

    table, image = wire.decode_product(product).units
    assert table.data is not None
    assert image.data is not None
    assert table.data.tolist() == [(50000.0, 3.0, 3)]
    assert image.data.tolist() == [3.0]


def test_a_response_without_products_is_not_changed() -> None:
    body = b'{"query_status": "submitted",  "products": {}}'

    assert recalibrated(body, 1.5) == body
