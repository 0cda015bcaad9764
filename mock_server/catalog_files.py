"""Checks that an uploaded file is a catalogue that the dispatcher can read (protocol: dispatcher 1.3.6)."""

from __future__ import annotations

import io
from typing import Final

from oda_proxy.errors import BadQueryError

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


def check_catalog_file(content: bytes) -> None:
    """Raise CatalogFileError unless a file is an ECSV or FITS table with names, positions and significances."""
    from astropy.table import Table  # imported only if it is needed

    for name in _FORMATS:
        try:
            table = Table.read(io.BytesIO(content), format=name)
        except Exception:  # noqa: BLE001, S112 - readers of astropy raise errors of every kind; the next format is tried
            continue
        has_columns = set(_COLUMNS) <= set(table.colnames)
        if has_columns and set(_META_DATA) <= set(table.meta):
            return
    raise CatalogFileError
