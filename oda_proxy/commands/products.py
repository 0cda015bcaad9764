"""Decoding of the data products of a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oda_proxy.errors import CodecError

if TYPE_CHECKING:
    from oda_proxy.codec.product import DataProduct


def decode_products(products: dict[str, Any]) -> list[DataProduct]:
    """Decode the products with arrays. Raises CodecError."""
    from oda_proxy.codec import wire  # imports numpy and astropy

    several = products.get("numpy_data_product_list", [])
    single = [products["numpy_data_product"]] if "numpy_data_product" in products else []
    if not isinstance(several, list):
        raise CodecError("numpy_data_product_list is not a list")
    return [wire.decode_product(product) for product in (*single, *several)]
