"""The data products of a recording, decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oda_proxy.errors import CodecError

if TYPE_CHECKING:
    from oda_proxy.codec.product import DataProduct


def decoded(products: dict[str, Any]) -> list[DataProduct]:
    """Decode the products that hold arrays. Raises CodecError."""
    from oda_proxy.codec import wire  # numpy and astropy

    listed = products.get("numpy_data_product_list", [])
    single = [products["numpy_data_product"]] if "numpy_data_product" in products else []
    if not isinstance(listed, list):
        raise CodecError("the list of products is none")
    return [wire.decode_product(product) for product in (*single, *listed)]


def name_of(product: DataProduct) -> str:
    """Name a product, with the source that it is about where it says so."""
    source = product.meta_data.get("src_name")
    return f"{product.name} {source}" if isinstance(source, str) and source else product.name
