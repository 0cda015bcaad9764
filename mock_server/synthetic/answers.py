"""Answers that are made up, to be served as fixtures are."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from mock_server.synthetic.observation import ImpossibleQueryError, observe
from oda_proxy.fixture.model import FixtureAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mock_server.matching import Question
    from mock_server.synthetic.observation import Observation
    from mock_server.synthetic.products import Made

# What is made up for each instrument, and the files that clients may download.
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
_TIMELINE: Final = (("submitted", 0.0), ("progress", 2.0), ("ready", 6.0))
# One is made at a time: a mosaic takes some hundred megabytes while it is.
_making = threading.Lock()


@dataclass(frozen=True)
class SyntheticAnswer:
    """The answer to a query: data made up for it, or why there is none."""

    path: str
    files: Mapping[str, None]
    observation: Observation | None
    refusal: str = ""

    def answer(self) -> FixtureAnswer:
        """Say how the query ends; what cannot be observed fails at once."""
        told = dict.fromkeys(("message", "error_message", "debug_message", "comment", "warning"), "")
        if self.observation is None:
            told |= {"message": self.refusal, "error_message": self.refusal}
            return FixtureAnswer("failed", {"status": 1, **told}, (), {})
        return FixtureAnswer("done", {"status": 0, **told}, _TIMELINE, {})

    def wire_products(self, *, form: Literal["pickle", "json"] = "pickle") -> dict[str, Any]:
        """Give `products` as on the wire; slow.

        Raises
        ------
        FixtureError
            A shipped fixture, of which the shapes are taken, is damaged.
        """
        from oda_proxy.codec import wire  # numpy and astropy: not before an array is wanted

        made = self._made()
        products: dict[str, Any] = {
            "numpy_data_product_list": [wire.encode_product(product, form=form) for product in made.products]
        }
        if made.binaries is not None:
            products["binary_data_product_list"] = [wire.encode_binary(content) for content in made.binaries.values()]
        if made.catalog is not None:
            products["catalog"] = wire.encode_catalog(made.catalog)
        return products

    def read_file(self, name: str) -> bytes:
        """Give the content of a file: the products that belong into it as one FITS file, or another file."""
        from oda_proxy.codec import fits

        made = self._made()
        if made.binaries is not None and name in made.binaries:
            return made.binaries[name]
        here = [product for product, file in zip(made.products, made.files, strict=True) if file == name]
        if not name.endswith(("_lc.fits", "_spectrum.fits")):
            here = here[:1]  # all sources share it
        return fits.write([*here[0].units[:1], *(unit for product in here for unit in product.units[1:])])

    def _made(self) -> Made:
        from mock_server.synthetic import products

        if self.observation is None:
            raise ImpossibleQueryError(self.refusal)
        with _making:
            return products.make(self.observation)


def synthetic_answer(question: Question, seed: int) -> SyntheticAnswer | None:
    """Give the made-up answer to a query, the same for the same query and seed.

    None for what no data are made up for: other instruments than those of the shipped fixtures, products without a
    shipped answer, pages (queries without `api`), and queries with files.
    """
    files = _FILES.get((question.instrument, question.product))
    if files is None or not question.api or question.files:
        return None
    path = f"{question.instrument}/{question.product}/synthetic-{question.digest(seed)[:16]}"
    try:
        return SyntheticAnswer(path, MappingProxyType(dict.fromkeys(files)), observe(question, seed))
    except ImpossibleQueryError as error:
        return SyntheticAnswer(path, MappingProxyType({}), None, str(error))
