"""A fixture whose data are made up for a query."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from mock_server.matching import DUMMY
from mock_server.synthetic.observation import ImpossibleQueryError, observe
from oda_proxy.fixture.model import FixtureAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mock_server.matching import NormalisedQuery
    from mock_server.settings import Generation
    from mock_server.synthetic.observation import Observation
    from mock_server.synthetic.products import GeneratedProducts

# The products with synthetic data, and their files for download.
_FILES: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("isgri", "isgri_image"): ("mosaic_image.fits",),
    ("isgri", "isgri_lc"): ("isgri_lc.fits",),
    ("isgri", "isgri_spectrum"): ("isgri_spectrum.fits", "isgri_arf.fits", "isgri_rmf.fits"),
    ("jemx", "jemx_image"): ("mosaic_image.fits",),
    ("jemx", "jemx_lc"): ("jemx_lc.fits",),
    ("jemx", "jemx_spectrum"): ("jemx_spectrum.fits", "jemx_arf.fits", "jemx_rmf.fits"),
    ("polar", "polar_lc"): ("polar_lc.fits", "lc.root"),
    ("spi_acs", "spi_acs_lc"): ("spi_acs_lc.fits",),
}
_WITHOUT_WINDOWS: Final = frozenset({"polar", "spi_acs"})
"""Instruments whose plugins list one input, 1, where others list science windows."""
_TIMELINE: Final = (("submitted", 0.0), ("progress", 2.0), ("ready", 6.0))
# Only one is generated at a time, because a mosaic needs some hundred megabytes.
_generating = threading.Lock()


@dataclass(frozen=True)
class SyntheticFixture:
    """Synthetic data for a query, or the reason why there are none, with the interface of a fixture."""

    path: str
    files: Mapping[str, None]
    observation: Observation | None
    refusal: str
    generation: Generation
    is_dummy: bool

    def answer(self) -> FixtureAnswer:
        """Return the result of the query; impossible observations fail at once."""
        texts = dict.fromkeys(("message", "error_message", "debug_message", "comment", "warning"), "")
        if self.observation is None:
            texts |= {"message": self.refusal, "error_message": self.refusal}
            return FixtureAnswer("failed", {"status": 1, **texts}, (), {})
        instrument = self.path.split("/")[0]
        products = {"input_prod_list": [1]} if instrument in _WITHOUT_WINDOWS else {}
        return FixtureAnswer("done", {"status": 0, **texts}, () if self.is_dummy else _TIMELINE, products)

    def wire_products(self, *, form: Literal["pickle", "json"] = "pickle") -> dict[str, Any]:
        """Return `products` as on the wire; slow.

        Raises
        ------
        FixtureError
            A shipped fixture that is used as a template is damaged.
        """
        from oda_proxy.codec import wire  # numpy and astropy: imported only for arrays

        generated = self._generated()
        products: dict[str, Any] = {
            "numpy_data_product_list": [wire.encode_product(product, form=form) for product in generated.products]
        }
        if generated.binaries is not None:
            products["binary_data_product_list"] = [
                wire.encode_binary(content) for content in generated.binaries.values()
            ]
        if generated.catalog is not None:
            products["catalog"] = wire.encode_catalog(generated.catalog)
        return products

    def read_file(self, name: str) -> bytes:
        """Return the content of a file: its products as one FITS file, or another file."""
        from oda_proxy.codec import fits

        generated = self._generated()
        if generated.binaries is not None and name in generated.binaries:
            return generated.binaries[name]
        in_file = [product for product, file in zip(generated.products, generated.files, strict=True) if file == name]
        if not name.endswith(("_lc.fits", "_spectrum.fits")):
            in_file = in_file[:1]  # shared by all sources
        return fits.write([*in_file[0].units[:1], *(unit for product in in_file for unit in product.units[1:])])

    def _generated(self) -> GeneratedProducts:
        from mock_server.synthetic import products

        if self.observation is None:
            raise ImpossibleQueryError(self.refusal)
        with _generating:
            return products.generate(self.observation, self.generation)


def synthetic_fixture(query: NormalisedQuery, seed: int, generation: Generation) -> SyntheticFixture | None:
    """Return synthetic data for a query; they are the same for the same query and seed.

    Dummy products come at once, and have the form of 2019 in every generation.

    None for queries without synthetic data: other instruments than those of the shipped fixtures, products without a
    shipped fixture, pages (queries without `api`), and queries with files.
    """
    files = _FILES.get((query.instrument, query.product))
    if files is None or not query.api or query.files:
        return None
    is_dummy = query.query_type == DUMMY
    if is_dummy:
        generation = "2019"
    path = f"{query.instrument}/{query.product}/synthetic-{query.digest(seed)[:16]}"
    try:
        contents = MappingProxyType(dict.fromkeys(files))
        return SyntheticFixture(path, contents, observe(query, seed), "", generation, is_dummy)
    except ImpossibleQueryError as error:
        return SyntheticFixture(path, MappingProxyType({}), None, str(error), generation, is_dummy)
