"""The products of a query without `api`, for the web page of a dispatcher: pictures in HTML, and names of files.

They are made from the products of the same query for clients. Members, their order and their forms are those of
dispatcher 1.3.6 for its products of INTEGRAL and POLAR, and of nb2workflow's plugin for others; pictures are PNG files
in the HTML, where a dispatcher has scripts of Bokeh.
"""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from mock_server.synthetic.described_fixture import DescribedFixture
from oda_proxy.fixture.reading import Fixture

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mock_server.synthetic.synthetic_fixture import SyntheticFixture
    from oda_proxy.codec.product import DataProduct
    from oda_proxy.fixture.model import FixtureAnswer

_PRODUCTS: Final = "numpy_data_product_list"
_SPECTRUM_FILES: Final = {"spectrum": "ph_file_name", "arf": "arf_file_name", "rmf": "rmf_file_name"}
_WIDTH: Final = 360
"""Pixels of a curve, along its longer side."""


@dataclass(frozen=True)
class WebFixture:
    """The products of a fixture for the web page, with the interface of a fixture; `source` has those for clients."""

    source: Fixture | SyntheticFixture | DescribedFixture

    @property
    def path(self) -> str:
        """The path of the fixture that they are made from."""
        return self.source.path

    @property
    def files(self) -> Mapping[str, Any]:
        """The files for `/download_products`, by name."""
        return self.source.files

    def answer(self) -> FixtureAnswer:
        """Return the result of the query."""
        return self.source.answer()

    def read_file(self, name: str) -> bytes:
        """Return the content of a file; raises FixtureError."""
        return self.source.read_file(name)

    def wire_products(self, *, form: Literal["pickle", "json"] = "pickle") -> dict[str, Any]:
        """Return `products` as on the wire; raises FixtureError."""
        products = self.source.wire_products(form=form)
        if not isinstance(self.source, DescribedFixture):
            return _web_products(self.source, products)
        from mock_server.synthetic.output_pages import web_products

        return web_products(self.source.query.product, self.source.outputs, products)


def for_web_page(source: Fixture | SyntheticFixture | DescribedFixture | WebFixture | None) -> WebFixture | None:
    """Return the products of a fixture for the web page, or None without one."""
    return source if source is None or isinstance(source, WebFixture) else WebFixture(source)


def _web_products(source: Fixture | SyntheticFixture, products: Mapping[str, Any]) -> dict[str, Any]:
    from oda_proxy.codec import wire  # numpy and astropy: imported only for arrays

    product = source.path.split("/")[1]
    arrays = [wire.decode_product(one) for one in products.get(_PRODUCTS, ())]
    files = _array_files(source, arrays)
    if product.endswith("_spectrum") and any("product" in one.meta_data for one in arrays):
        return _spectra(arrays, files)
    if "catalog" in products and len(arrays) == 1:
        return {
            "image": _drawn(arrays[0]),
            "catalog": products["catalog"],
            "file_name": files[0],
            "download_file_name": "image.gz",
        }
    others = [name for name in source.files if name.endswith(".root")]
    names = [str(one.meta_data.get("src_name") or one.name or product) for one in arrays]
    return {
        "name": names,
        "file_name": files,
        **({"root_file_name": others} if others else {}),
        "image": [_drawn(one) for one in arrays],
        "download_file_name": "light_curves.tar.gz" if len(set(files)) + len(others) > 1 else "light_curve.fits.gz",
    }


def _spectra(arrays: list[DataProduct], files: list[str]) -> dict[str, Any]:
    """Return names of spectra, of their files and of their responses; pages show no picture before a fit."""
    listed: dict[str, Any] = {"spectrum_name": [], **{member: [] for member in _SPECTRUM_FILES.values()}}
    for one, file in zip(arrays, files, strict=True):
        kind = str(one.meta_data.get("product", "")).rpartition("_")[2]
        if kind in _SPECTRUM_FILES:
            listed[_SPECTRUM_FILES[kind]].append(file)
        if kind == "spectrum":
            listed["spectrum_name"].append(str(one.meta_data["src_name"]).replace(" ", "_"))
    return {**listed, "download_file_name": "spectra.tar.gz"}


def _array_files(source: Fixture | SyntheticFixture, arrays: list[DataProduct]) -> list[str]:
    """Return the name of the file of each product."""
    if isinstance(source, Fixture):
        return [str(entry["file"]) for entry in source.answer().products.get(_PRODUCTS, ())]
    first = next((name for name in source.files if name.endswith(".fits")), "")
    named = (f"{one.meta_data.get('product', one.name)}.fits" for one in arrays)
    return [name if name in source.files else first for name in named]


def _drawn(product: DataProduct) -> dict[str, Any]:
    """Return a picture of a product in HTML, in the member that a page inserts."""
    from mock_server.synthetic import png_plot

    pictures = []
    for unit in product.units:
        kind = next((card.value for card in unit.header if card.keyword == "IMATYPE"), None)
        if unit.data is None or (kind is not None and kind != "SIGNIFICANCE"):
            continue
        column = product.meta_data.get("rate")
        if unit.data.dtype.names is None:
            pictures.append(png_plot.map_png(unit.data))
        elif column in unit.data.dtype.names:
            pictures.append(png_plot.curve_png(unit.data[column], _WIDTH))
    title = html.escape(str(product.meta_data.get("src_name") or product.name))
    images = "".join(
        f'<img alt="{title}" src="data:image/png;base64,{base64.b64encode(one).decode()}">' for one in pictures
    )
    return {
        "image": {"script": "", "div": f"<div>{images}</div>"},
        "header_text": "",
        "table_text": "",
        "footer_text": "",
    }
