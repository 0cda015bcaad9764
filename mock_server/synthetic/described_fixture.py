"""A fixture whose data are made up for a query of an instrument that is only described."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from mock_server.synthetic.guessed_outputs import guessed_outputs
from mock_server.synthetic.output_names import file_names
from oda_proxy.errors import FixtureError
from oda_proxy.fixture.model import FixtureAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mock_server.descriptions import Description
    from mock_server.matching import NormalisedQuery
    from oda_proxy.fixture.model import OutputDescription

_TIMELINE: Final = (("submitted", 0.0), ("progress", 2.0), ("ready", 6.0))
# Only one is generated at a time, because of the memory that it needs.
_generating = threading.Lock()


@dataclass(frozen=True)
class DescribedFixture:
    """Synthetic outputs for a query, with the interface of a fixture; `digest` is that of the query and the seed."""

    path: str
    files: Mapping[str, None]
    query: NormalisedQuery
    outputs: tuple[OutputDescription, ...]
    units: Mapping[str, str | None]
    digest: str

    def answer(self) -> FixtureAnswer:
        """Return the result of the query, with the comment of its workflow if it has one."""
        texts = dict.fromkeys(("message", "error_message", "debug_message", "comment", "warning"), "")
        if any(output.kind == "comment" for output in self.outputs):
            texts["comment"] = f"Data made up by the mock for {self.query.instrument} {self.query.product}"
        return FixtureAnswer("done", {"status": 0, **texts}, _TIMELINE, {})

    def wire_products(self, *, form: Literal["pickle", "json"] = "pickle") -> dict[str, Any]:
        """Return `products` as on the wire."""
        from mock_server.synthetic.outputs import wire_products  # numpy and astropy: imported only for arrays

        with _generating:
            return wire_products(self.query, self.outputs, self.units, int(self.digest[:8], 16), form=form)

    def read_file(self, name: str) -> bytes:
        """Return the content of a file, which is an output in the form of its ending; raises FixtureError."""
        from mock_server.synthetic.output_files import output_files

        contents = output_files(self.outputs, self.wire_products())
        if name not in contents:
            raise FixtureError(Path(self.path), f"has no file {name!r}")
        return contents[name]


def described_fixture(query: NormalisedQuery, description: Description, seed: int) -> DescribedFixture | None:
    """Return synthetic outputs for a query; they are the same for the same query and seed.

    None for pages (queries without `api`).
    """
    if not query.api:
        return None
    product = description.product_query(query.product)
    outputs = product.outputs if product.outputs is not None else guessed_outputs(query.product)
    digest = query.digest(seed)
    return DescribedFixture(
        path=f"{query.instrument}/{query.product}/synthetic-{digest[:16]}",
        files=MappingProxyType(dict.fromkeys(filter(None, file_names(outputs)))),
        query=query,
        outputs=outputs,
        units=MappingProxyType({one.name: one.units for one in description.parameters(query.product)}),
        digest=digest,
    )
