"""Reads an uploaded catalogue as the dispatcher does (protocol: dispatcher 1.3.6)."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.errors import BadQueryError

if TYPE_CHECKING:
    from astropy.table import Table

FILE: Final = "user_catalog_file"
_FORMATS: Final = ("ascii.ecsv", "fits")
_COLUMNS: Final = ("src_names", "significance")
_PLACES: Final = ("LON_NAME", "LAT_NAME")
_META_DATA: Final = ("FRAME", "COORD_UNIT", *_PLACES)
_MESSAGE: Final = (
    "Error while setting catalog file from the frontend : format not valid, a catalog should be provided as a FITS "
    "(typical standard OSA catalog) or "
    "<a href=https://docs.astropy.org/en/stable/api/astropy.io.ascii.Ecsv.html>ECSV</a> table."
)


class CatalogFileError(BadQueryError):
    """A file that is not a catalogue; the message is the dispatcher's."""

    def __init__(self) -> None:
        super().__init__(_MESSAGE)


def read_catalog_file(content: bytes) -> str:
    """Return the catalogue in an ECSV or FITS table as the JSON of `selected_catalog`.

    Raises
    ------
    CatalogFileError
        The file is not a table with names, positions and significances.
    """
    from astropy.table import Table  # imported only if it is needed

    for name in _FORMATS:
        try:
            table = Table.read(io.BytesIO(content), format=name)
        except Exception:  # noqa: BLE001, S112 - readers of astropy raise errors of every kind; the next format is tried
            continue
        has_columns = set(_COLUMNS) <= set(table.colnames)
        if has_columns and set(_META_DATA) <= set(table.meta):
            return json.dumps(_dictionary(table))
    raise CatalogFileError


def _dictionary(table: Table) -> dict[str, Any]:
    """Return a catalogue in the order of the dispatcher's members; NaN is null."""
    return {
        "cat_frame": table.meta["FRAME"],
        "cat_coord_units": table.meta["COORD_UNIT"],
        "cat_column_list": [[_value(value) for value in table[name].tolist()] for name in table.colnames],
        "cat_column_names": table.colnames,
        "cat_column_descr": table.dtype.descr,
        "cat_lat_name": table.meta["LAT_NAME"],
        "cat_lon_name": table.meta["LON_NAME"],
    }


def _value(value: Any) -> Any:
    if isinstance(value, bytes):  # of FITS
        return value.decode(errors="replace")
    return None if value != value else value  # noqa: PLR0124 - NaN
