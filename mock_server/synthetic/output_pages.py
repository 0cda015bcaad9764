"""Made-up outputs for the web page of a dispatcher, in the form of nb2workflow's plugin."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING, Any, Final

from mock_server.synthetic import png_plot
from mock_server.synthetic.output_files import listed_values
from oda_proxy.codec import wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oda_proxy.fixture.model import OutputDescription

_WIDTH: Final = 360
"""Pixels of a curve, along its longer side."""
_NO_PREVIEW: Final = "<br>No preview available"


def web_products(product: str, outputs: Sequence[OutputDescription], products: Mapping[str, Any]) -> dict[str, Any]:
    """Return `products` for the page from those for clients: names of files, HTML, and names.

    Several outputs have a list of images, a single one its image.
    """
    listed = list(listed_values(outputs, products))
    files = [name for _, name, _ in listed if name]
    images = [{"image": {"div": _html(output.kind, value), "script": ""}} for output, _, value in listed]
    return {
        "file_name": files,
        "image": images[0] if len(images) == 1 else images,
        "name": [output.name for output, _, _ in listed],
        "download_file_name": f"{files[0]}.gz" if len(files) == 1 else f"{product}.tar.gz",
    }


def _html(kind: str, value: Any) -> str:
    match kind:
        case "image" | "light_curve" | "picture":
            data = base64.b64encode(_png(kind, value)).decode()
            return f'<br><img src="data:image/png;base64,{data}" class="img-responsive">'
        case "ascii_table":
            return f"<br><br>{_table(wire.decode_ascii_table(value).text)}"
        case "parameter":
            return f"<br>value: {value['value']}<br>uri: {html.escape(str(value['meta_data']['uri']))}"
        case "text" | "progress":
            return f"<br>{html.escape(value['value'])}"
    return _NO_PREVIEW


def _png(kind: str, value: Any) -> bytes:
    if kind == "picture":
        return wire.decode_picture(value).data
    *_, unit = wire.decode_product(value).units
    assert unit.data is not None  # noqa: S101 - it was just generated
    return png_plot.map_png(unit.data) if kind == "image" else png_plot.curve_png(unit.data["FLUX"], _WIDTH)


def _table(ecsv: str) -> str:
    from astropy.table import Table

    text = io.StringIO()
    Table.read(ecsv, format="ascii.ecsv").write(text, format="ascii.html")
    found = text.getvalue()
    return found[found.index("<table") : found.index("</table>") + len("</table>")]
