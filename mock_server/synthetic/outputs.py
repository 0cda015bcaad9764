"""Makes the outputs of a product that is only described, in the form of the wire, by their kinds.

Products of nb2workflow, whose outputs have types of its ontology, have the members that its plugin writes, in its
order.
"""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from mock_server.synthetic import gravitational_waves, png_plot
from mock_server.synthetic.random_numbers import random_state
from mock_server.synthetic.scene import DAY, read_scene
from mock_server.synthetic.table_columns import rounded, table_columns
from oda_proxy.codec import fits, pickle_writing, wire
from oda_proxy.codec.product import Card, DataProduct, DataUnit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from mock_server.matching import NormalisedQuery
    from mock_server.synthetic.scene import Scene
    from oda_proxy.codec.product import HeaderValue
    from oda_proxy.fixture.model import OutputDescription

Form = Literal["pickle", "json"]

_ARRAYS: Final = "numpy_data_product_list"
_ASCII_TABLES: Final = "astropy_table_product_ascii_list"
_BINARY_TABLES: Final = "astropy_table_product_binary_list"
_BINARIES: Final = "binary_data_product_list"
_PICTURES: Final = "binary_image_product_list"
_TEXTS: Final = "text_product_list"
_PROGRESS: Final = "progress_product_list"
_OF_NB2WORKFLOW: Final = (_ARRAYS, _ASCII_TABLES, _BINARIES, _PICTURES, _TEXTS, _PROGRESS)
MEMBERS: Final = {
    "image": _ARRAYS,
    "light_curve": _ARRAYS,
    "spectrum": _ARRAYS,
    "table": _ARRAYS,
    "ascii_table": _ASCII_TABLES,
    "binary_table": _BINARY_TABLES,
    "binary": _BINARIES,
    "picture": _PICTURES,
    "text": _TEXTS,
    "parameter": _TEXTS,
    "progress": _PROGRESS,
}
"""The list in `products` that has the outputs of a kind."""
_ROWS: Final = 30
_PICTURE_WIDTH: Final = 240
_SPECTRUM: Final = {"ENERGY": "keV", "FLUX": "1 / (keV cm2 s)", "ERROR": "1 / (keV cm2 s)"}
_MAX_VALUE: Final = 100


def wire_products(
    query: NormalisedQuery,
    outputs: Sequence[OutputDescription],
    units: Mapping[str, str | None],
    seed: int,
    *,
    form: Form = "pickle",
) -> dict[str, Any]:
    """Return `products` with made-up outputs; the same arguments give the same bytes.

    Parameters
    ----------
    query
        The query, whose parameters have positions, times and energies.
    outputs
        What the product consists of.
    units
        Units of the parameters.
    seed
        For the random numbers.
    form
        Of the arrays: pickles or texts.
    """
    is_nb2workflow = any(output.owl_uri is not None for output in outputs)
    products: dict[str, Any] = {}
    if is_nb2workflow:
        shown = [output for output in outputs if output.kind != "comment"]
        products["extra_metadata"] = {output.name: dict(output.extra_metadata) for output in shown}
        products["prod_uris"] = {output.name: output.owl_uri for output in shown}
        products |= {member: [] for member in _OF_NB2WORKFLOW}
    for number, output in enumerate(outputs):
        maker = _Maker(query, output, read_scene(query, units, output.size), random_state(seed + number), form)
        if output.kind in MEMBERS:
            products.setdefault(MEMBERS[output.kind], []).append(maker.item())
        else:
            products |= maker.member()
    return products


class _Maker:
    """Makes one output."""

    def __init__(
        self, query: NormalisedQuery, output: OutputDescription, scene: Scene, random: np.random.RandomState, form: Form
    ) -> None:
        self._query = query
        self._output = output
        self._scene = scene
        self._random = random
        self._form = form

    def item(self) -> Any:  # noqa: PLR0911 - one for each kind
        """Return an element of a list of outputs."""
        output = self._output
        match output.kind:
            case "image" | "light_curve" | "spectrum" | "table":
                product = DataProduct(output.name, output.meta_data, self._units())
                return wire.encode_product(product, form=self._form)
            case "ascii_table":
                table = wire.AsciiTable(self._ecsv(), output.name, output.meta_data)
                return wire.encode_ascii_table(table, form="object")
            case "binary_table":
                return self._binary_table()
            case "binary":
                return wire.encode_binary(fits.write(self._units()), name=output.name, form="object")
            case "picture":
                values = np.cumsum(self._random.standard_normal(_PICTURE_WIDTH))
                data = png_plot.curve_png(values, max(output.size or _PICTURE_WIDTH, 16))
                return wire.encode_picture(wire.Picture(data, "png", output.name, output.meta_data))
            case "parameter":
                return {"name": output.name, "value": self._value(), "meta_data": {"uri": output.owl_uri}}
        return {"name": output.name, "value": self._text()}

    def member(self) -> dict[str, Any]:
        """Return an output that is a member of its own; a comment is none, because it is not among the products."""
        match self._output.kind:
            case "gw_strain":
                return {"gw_strain_product_list": gravitational_waves.strain(self._scene, self._random)}
            case "gw_spectrogram":
                return {"gw_spectrogram_product": gravitational_waves.spectrogram(self._scene, self._random)}
            case "gw_skymap":
                levels = str(self._query.parameters.get("contour_levels", ""))
                return {"gw_skymap_product": gravitational_waves.skymap(self._scene, levels, self._random)}
            case "catalog":
                return {"catalog": self._catalog()}
        return {}

    # -- arrays -----------------------------------------------------------------------------------

    def _units(self) -> tuple[DataUnit, ...]:
        """Return the HDUs of arrays: an image alone, or an empty primary HDU and a table."""
        match self._output.kind:
            case "image":
                return (self._image(),)
            case "light_curve":
                table = self._light_curve()
            case "spectrum":
                table = self._columns_unit("SPECTRUM", self._output.columns or _SPECTRUM)
            case "binary":
                columns = self._output.columns or {"TIME": "s", "RA": "deg", "DEC": "deg", "ENERGY": "TeV"}
                table = self._columns_unit("EVENTS", columns)
            case _:
                table = self._columns_unit("TABLE", self._output.columns or {"X": None})
        return (DataUnit("PRIMARY", _cards({"SIMPLE": True, "BITPIX": 8, "NAXIS": 0}), None, "primary"), table)

    def _image(self) -> DataUnit:
        """Return counts of a point source in the centre of the field, with its background and celestial coordinates."""
        scene, pixels = self._scene, self._scene.pixels
        scale = 2 * scene.radius / pixels
        lines, columns = np.indices((pixels, pixels)) - (pixels - 1) / 2
        width = max(pixels / 30, 1.0)
        expected = 2.0 + 50.0 * np.exp(-(lines**2 + columns**2) / (2 * width**2))
        data = self._random.poisson(np.round(expected, 6)).astype("<f4")
        header: dict[str, HeaderValue] = {
            "SIMPLE": True,
            "BITPIX": -32,
            "NAXIS": 2,
            "NAXIS1": pixels,
            "NAXIS2": pixels,
            "BUNIT": "count",
            "CTYPE1": "RA---TAN",
            "CTYPE2": "DEC--TAN",
            "CUNIT1": "deg",
            "CUNIT2": "deg",
            "CRPIX1": (pixels + 1) / 2,
            "CRPIX2": (pixels + 1) / 2,
            "CRVAL1": scene.ra,
            "CRVAL2": scene.dec,
            "CDELT1": -scale,
            "CDELT2": scale,
            "RADESYS": "ICRS",
            "OBJECT": _header_text(scene.source),
        }
        return DataUnit("PRIMARY", _cards(header), data, "primary")

    def _light_curve(self) -> DataUnit:
        """Return a light curve as the client makes it from arrays: MJD, flux and its error."""
        rows, (start, stop) = self._rows, self._scene.times
        table = np.zeros(rows, [("TIME", "<f8"), ("FLUX", "<f8"), ("ERROR", "<f8")])
        step = (stop - start) / rows
        table["TIME"] = start + step * (np.arange(rows) + 0.5)
        table["ERROR"] = 1.0
        table["FLUX"] = rounded(10.0 + self._random.standard_normal(rows))
        units = {"TIME": "d", "FLUX": "ct / s", "ERROR": "ct / s"}
        cards = {"EXTNAME": "LC", "TIMEUNIT": "d", "MJDREF": 0.0, "TIMEDEL": step, "EXPOSURE": step * rows * DAY}
        return DataUnit("LC", _table_cards(cards, table, units), table, "bintable", units_dict=units)

    def _columns_unit(self, name: str, columns: Mapping[str, str | None]) -> DataUnit:
        values = table_columns(columns, self._rows, self._scene, self._random)
        table = np.zeros(self._rows, [(column, _fits_type(array)) for column, array in values.items()])
        for column, array in values.items():
            table[column] = array
        units = {column: text for column, text in columns.items() if text is not None}
        return DataUnit(
            name, _table_cards({"EXTNAME": name}, table, units), table, "bintable", units_dict=units or None
        )

    # -- tables and texts -------------------------------------------------------------------------

    @property
    def _rows(self) -> int:
        return self._output.size or _ROWS

    def _table(self) -> Any:
        from astropy.table import Table

        columns = dict(self._output.columns) or {"x": None, "y": None}
        made = Table(table_columns(columns, self._rows, self._scene, self._random))
        for name, units in columns.items():
            made[name].unit = units
        return made

    def _ecsv(self) -> str:
        text = io.StringIO()
        self._table().write(text, format="ascii.ecsv")
        return text.getvalue().replace("\r\n", "\n")

    def _binary_table(self) -> dict[str, Any]:
        values = self._table().as_array()
        units = {name: text for name, text in self._output.columns.items() if text is not None}
        content = base64.b64encode(pickle_writing.dumps_table(values, units)).decode().replace("null", "nu ll")
        meta_data = json.dumps(dict(self._output.meta_data))
        return {"binary": content, "ascii": None, "name": self._output.name, "meta_data": meta_data}

    def _catalog(self) -> dict[str, Any]:
        """Return a catalogue as plugins make it from a table: with an index, and without a frame."""
        table = self._table()
        columns = {"index": list(range(len(table))), **{name: table[name].tolist() for name in table.colnames}}
        kinds = {int: "<i8", float: "<f8", str: "<U20"}
        return wire.encode_catalog(
            {
                "cat_column_list": list(columns.values()),
                "cat_column_names": list(columns),
                "cat_column_descr": [[name, kinds[type(values[0])]] for name, values in columns.items()],
                "cat_meta": {},
            }
        )

    def _value(self) -> float:
        return float(rounded(self._random.uniform(1, 10, 1))[0])

    def _text(self) -> str:
        """Return the parameters of the query, one in a line."""
        query = self._query
        lines = [f"{query.instrument} {query.product}, made up by the mock"]
        lines += [f"{name} = {str(value)[:_MAX_VALUE]}" for name, value in sorted(query.parameters.items())]
        return "\n".join(lines)


def _header_text(text: str) -> str:
    """Return a text with what FITS headers can hold."""
    return "".join(character if " " <= character <= "~" else "?" for character in text)[:60]


def _cards(values: Mapping[str, HeaderValue]) -> tuple[Card, ...]:
    return tuple(Card(name, value) for name, value in values.items())


def _table_cards(cards: Mapping[str, Any], table: NDArray[Any], units: Mapping[str, str]) -> tuple[Card, ...]:
    header: dict[str, HeaderValue] = dict(cards)
    for number, name in enumerate(table.dtype.names or (), 1):
        header[f"TTYPE{number}"] = name
        if name in units:
            header[f"TUNIT{number}"] = units[name]
    return _cards(header)


def _fits_type(array: NDArray[Any]) -> str:
    return f"S{max(array.itemsize // 4, 1)}" if array.dtype.kind == "U" else "<f8"
