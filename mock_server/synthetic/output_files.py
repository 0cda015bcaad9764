"""The files of made-up outputs: FITS, ECSV, PNG and texts, decoded from their form on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mock_server.synthetic.output_names import file_names
from mock_server.synthetic.outputs import MEMBERS
from oda_proxy.codec import fits, wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from oda_proxy.fixture.model import OutputDescription


def listed_values(
    outputs: Sequence[OutputDescription], products: Mapping[str, Any]
) -> Iterator[tuple[OutputDescription, str, Any]]:
    """Yield each output that is in a list of `products`, the name of its file, and its value on the wire."""
    lists = {member: iter(products.get(member, ())) for member in MEMBERS.values()}
    for output, name in zip(outputs, file_names(outputs), strict=True):
        if output.kind in MEMBERS:
            yield output, name, next(lists[MEMBERS[output.kind]])


def output_files(outputs: Sequence[OutputDescription], products: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the content of each file by its name, for the outputs of a description and their `products`."""
    return {name: _content(output.kind, value) for output, name, value in listed_values(outputs, products) if name}


def _content(kind: str, value: Any) -> bytes:
    match kind:
        case "ascii_table":
            return wire.decode_ascii_table(value).text.encode()
        case "picture":
            return wire.decode_picture(value).data
        case "binary":
            return wire.decode_binary(value).data
        case "text":
            return str(value["value"]).encode()
    return fits.write(wire.decode_product(value).units)
