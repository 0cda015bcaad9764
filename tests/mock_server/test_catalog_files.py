"""Uploaded catalogues: what the dispatcher can read, and what it refuses."""

from __future__ import annotations

import io

import pytest
from astropy.table import Table

from mock_server.catalog_files import CatalogFileError, read_catalog_file

META = {"FRAME": "fk5", "COORD_UNIT": "deg", "LON_NAME": "ra", "LAT_NAME": "dec"}


def written(name: str, meta: dict[str, str]) -> bytes:
    table = Table({"src_names": ["Crab"], "significance": [10.0], "ra": [83.6], "dec": [22.0]}, meta=meta)
    stream: io.StringIO | io.BytesIO = io.StringIO() if name == "ascii.ecsv" else io.BytesIO()
    table.write(stream, format=name)
    content = stream.getvalue()
    return content.encode() if isinstance(content, str) else content


@pytest.mark.filterwarnings("ignore:Keyword name")  # COORD_UNIT is longer than a keyword of FITS
@pytest.mark.parametrize("name", ["ascii.ecsv", "fits"])
def test_a_table_with_names_and_positions_is_a_catalogue(name: str) -> None:
    read_catalog_file(written(name, META))
    with pytest.raises(CatalogFileError, match="format not valid, a catalog should be provided"):
        read_catalog_file(written(name, {"FRAME": "fk5"}))


@pytest.mark.parametrize("content", [b"", b"no catalogue", b"\x00" * 3000, b"SIMPLE  =                    T"])
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(CatalogFileError):
        read_catalog_file(content)
