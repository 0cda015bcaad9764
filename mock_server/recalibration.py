"""Products as after a new calibration: the same query has another answer than before."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from oda_proxy.codec.wire import decode_product, encode_product

if TYPE_CHECKING:
    from oda_proxy.codec.product import Array, DataUnit

_PRODUCTS: Final = "numpy_data_product_list"
_TIMES: Final = ("TIME", "TSTART", "TSTOP", "MJD")
"""How the names of columns begin that no calibration changes."""


def recalibrated(body: bytes, factor: float) -> bytes:
    """Return the body of a response with the values of its products, but for times, multiplied by a factor."""
    response = json.loads(body)
    products = response.get("products", {})
    if _PRODUCTS not in products:
        return body
    decoded = [decode_product(product) for product in products[_PRODUCTS]]
    products[_PRODUCTS] = [
        encode_product(replace(product, units=tuple(_unit(unit, factor) for unit in product.units)))
        for product in decoded
    ]
    return json.dumps(response).encode()


def _unit(unit: DataUnit, factor: float) -> DataUnit:
    return unit if unit.data is None else replace(unit, data=_values(unit.data, factor))


def _values(data: Array, factor: float) -> Array:
    values = data.copy()
    if data.dtype.names is None:
        return values if data.dtype.kind != "f" else (values * factor).astype(data.dtype)
    for name in data.dtype.names:
        if data.dtype[name].base.kind == "f" and not name.upper().startswith(_TIMES):
            values[name] = values[name] * factor
    return values
