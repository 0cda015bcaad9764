"""The files of made-up outputs: FITS, ECSV, PNG, texts and JSON, decoded from their form on the wire."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mock_server.synthetic.output_names import file_names
from mock_server.synthetic.outputs import MEMBERS
from oda_proxy.codec import fits, wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oda_proxy.fixture.model import OutputDescription


def output_files(outputs: Sequence[OutputDescription], products: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the content of each file by its name, for the outputs of a description and their `products`."""
    lists = {member: iter(products.get(member, ())) for member in MEMBERS.values()}
    files = {}
    for output, name in zip(outputs, file_names(outputs), strict=True):
        member = MEMBERS.get(output.kind)
        value = None if member is None else next(lists[member])
        if name:
            files[name] = _content(output.kind, value)
    return files


def _content(kind: str, value: Any) -> bytes:
    match kind:
        case "ascii_table":
            return wire.decode_ascii_table(value).text.encode()
        case "picture":
            return wire.decode_picture(value).data
        case "binary":
            return wire.decode_binary(value).data
        case "text" | "progress":
            return str(value["value"]).encode()
        case "parameter":
            return json.dumps(value["value"]).encode()
    return fits.write(wire.decode_product(value).units)
