"""The notebook's image, asked by real clients of the mock through the proxy: once upstream, then from the store."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from servers import Server, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

ASKED = json.dumps(
    {
        "instrument": "isgri",
        "product": "isgri_image",
        "product_type": "Real",
        "T1": "2003-03-15T23:27:40.0",
        "T2": "2003-03-16T00:03:15.0",
        "E1_keV": 20.0,
        "E2_keV": 40.0,
        "osa_version": "OSA10.2",
        "RA": 255.986542,
        "DEC": -37.844167,
        "detection_threshold": 5.0,
        "radius": 15.0,
    }
)
HEADER = {
    "BASETYPE": "DAL_ARRAY", "BITPIX": -32, "BSCALE": 1, "BUNIT": "no units", "BZERO": 0,
    "CD1_1": -0.0822862539155913, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.0822862539155913,
    "CHANMAX": 40, "CHANMIN": 20, "CHANTYPE": "PI", "CHECKSUM": "nRMqnQLnnQLnnQLn", "COMMENT": "STAMP :",
    "CONFIGUR": "latest_osa_sw_2015-11-10T03:50:02", "CREATOR": "ii_skyimage 5.4.4",
    "CRPIX1": 228.0, "CRPIX2": 228.0, "CRVAL1": 252.939376831055, "CRVAL2": -32.649772644043,
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg", "DATASUM": "2370916866",
    "DATE": "2019-05-27T06:46:26", "DATE-END": "2003-03-15T23:57:39", "DATE-OBS": "2003-03-15T23:27:53",
    "DEADC": 0.775885283090927, "DETNAM": "ISGRI", "EQUINOX": 2000.0, "EXTNAME": "ISGR-MOSA-IMA", "EXTREL": "7.4",
    "EXTVER": 3, "E_MAX": 40.0, "E_MEAN": 30.0, "E_MIN": 20.0, "GCOUNT": 1, "GRPID1": 1, "HDUCLAS1": "IMAGE",
    "HDUCLASS": "OGIP", "HDUDOC": "ISDC-IBIS ICD", "HDUVERS": "1.1.0", "IMATYPE": "SIGNIFICANCE", "INSTRUME": "IBIS",
    "ISDCLEVL": "IMA", "LATPOLE": 0, "LONGPOLE": 180, "MJDREF": 51544.0, "MOSASPR": 1, "NAXIS": 2, "NAXIS1": 455,
    "NAXIS2": 455, "OGID": "String", "ONTIME": 1587.05859375, "ORIGIN": "ISDC", "PCOUNT": 0, "RADECSYS": "FK5",
    "STAMP": "2019-05-27T06:46:26 ii_skyimage 5.4.4", "TELAPSE": 1589.0, "TELESCOP": "INTEGRAL",
    "TFIRST": 1169.97884473118, "TIMEREF": "LOCAL", "TIMESYS": "TT", "TIMEUNIT": "d", "TLAST": 1169.99724526505,
    "TSTART": 1169.97844975867, "TSTOP": 1169.99912106495, "XTENSION": "IMAGE",
}  # fmt: skip
"""What the notebook prints of the header of the image."""

CATALOGUE = [
    [67, "OAO 1657-415", 18.9650936126709, 255.1972198486328, -41.653160095214844, -32768, 2, 0,
     0.00014000000373926014],
    [73, "4U 1700-377", 22.8853702545166, 255.97720336914062, -37.83725357055664, -32768, 2, 0, 0.0002800000074785203],
    [76, "GX 349+2", 14.08207893371582, 256.4292297363281, -36.415679931640625, -32768, 2, 0, 0.0002800000074785203],
    [128, "GX 354-0", 9.371565818786621, 262.9886169433594, -33.828392028808594, -32768, 2, 0, 0.0002800000074785203],
]  # fmt: skip
"""What the notebook prints of the catalogue."""


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "mock-log", "mock", "--port", "0", "--time-scale", "0.3") as server:
        yield server


@pytest.fixture
def proxy(mock: Server, tmp_path: Path) -> Iterator[Server]:
    cache = str(tmp_path / "cache")
    with running(tmp_path / "log", "serve", "--upstream", mock.url, "--port", "0", "--cache-dir", cache) as server:
        yield server


def status(server: Server) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server.url}/-/status") as response:  # noqa: S310 - an address on this machine
        told: dict[str, Any] = json.load(response)
    return told


# Since 1.0.9 the client adds the product's kind to the name, which the dispatcher gives in its meta data.
@pytest.mark.parametrize(("version", "name"), [("1.3.5", "mosaic_image_0_mosaic"), ("1.0", "mosaic_image_0")])
def test_the_image_is_what_the_notebook_prints_and_is_computed_once(
    run_client: Callable[..., Any], proxy: Server, mock: Server, version: str, name: str
) -> None:
    first, second = (run_client(version, "get_product.py", proxy.url, ASKED)["answers"][0] for _ in range(2))

    assert second == first
    assert status(mock)["jobs"] == 1
    assert status(proxy)["run_analysis"]["hits"] == 1
    assert first["names"] == [name, "dispatcher_catalog_1"]
    image, catalogue = first["products"]
    assert [unit["name"] for unit in image["units"]] == ["Primary", "ISGR-MOSA-IMA"]
    shape, dtype, _ = image["units"][1]["data"]
    assert (shape, dtype) == ([455, 455], "float32")
    assert image["units"][1]["header"] == HEADER
    assert catalogue["rows"] == CATALOGUE


def test_what_one_client_asked_for_is_there_for_the_other(
    run_client: Callable[..., Any], proxy: Server, mock: Server
) -> None:
    asked_first = run_client("1.0", "get_product.py", proxy.url, ASKED)["answers"]
    asked_later = run_client("1.3.5", "get_product.py", proxy.url, ASKED)["answers"]

    assert status(mock)["jobs"] == 1
    assert asked_later[0]["products"] == asked_first[0]["products"]


@pytest.mark.parametrize("version", ["1.3.5", "1.0"])
def test_instruments_and_descriptions_come_through_the_proxy(
    run_client: Callable[..., Any], proxy: Server, mock: Server, version: str
) -> None:
    direct, through = (
        run_client(version, "describe.py", server.url, "isgri", "isgri_image") for server in (mock, proxy)
    )

    assert through["instruments"] == ["isgri", "jemx", "polar", "spi_acs"]
    assert through == direct
    assert "detection_threshold" in through["said"]
