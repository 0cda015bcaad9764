"""Unmodified clients, the first release and the current one, decode products bit for bit and can write them as FITS."""

from __future__ import annotations

import base64
import json
import math
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from oda_proxy.codec import fits, pickle_writing, wire
from oda_proxy.codec.product import Card, DataProduct, DataUnit
from tests.support.client_forks import client_environment, run_forked
from tests.support.paths import CLIENT_SCRIPTS
from tests.support.random_arrays import same_bits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


pytestmark = pytest.mark.real

RELEASES = ["1.0", "1.3.5"]
NULL = base64.b64decode("null")
PRIMARY = DataUnit(
    "PRIMARY",
    (
        Card("SIMPLE", True),
        Card("BITPIX", 8),
        Card("NAXIS", 0),
        Card("COMMENT", "one"),
        Card("COMMENT", "two"),
        Card("HISTORY", "made"),
        Card("UNDEF", None),
        Card("LONG", "long " * 30 + "end"),
        Card("detection_threshold", "5.0"),
    ),
    hdu_type="primary",
)
META_DATA = {
    "src_name": "GX 349+2",
    "product": "mosaic",
    "nothing": None,
    "flag": True,
    "text": 'é😀\u2028\\"\x01',
    "query_parameters": '[{"units": null, "value": null}]',
}
NAN_PAYLOAD = np.frombuffer(bytes.fromhex("7fc01234 ffc00001 7f800000 ff800000 80000000 00000001"), ">f4")


def png() -> bytes:
    """Return a PNG image of one pixel."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0\0")),
        (b"IEND", b""),
    ]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def image_units() -> list[DataUnit]:
    """Return an image of each FITS type, with unusual bit patterns."""
    types = ["u1", ">i2", "<i4", ">i8", ">f4", "<f8", ">u2", "<u4", ">u8"]
    bits = bytes(range(7, 256, 3)) * 2
    images = [np.frombuffer(bits[: 6 * np.dtype(name).itemsize], name).reshape(2, 3) for name in types]
    return [
        DataUnit(f"I{n}", data=image, hdu_type="image") for n, image in enumerate([*images, NAN_PAYLOAD.reshape(2, 3)])
    ]


def table() -> Any:
    """Return a table with a column of each kind."""
    rows: Any = [
        (b"GX 349+2", "null", True, 1, -2, 40000, 2**31, 2**63, NAN_PAYLOAD[:3], [[1, 2], [3, 4]], 1j),
        (b"", "", False, 255, 127, 65535, 2**32 - 1, 2**64 - 1, NAN_PAYLOAD[3:], [[0, -0.0], [math.inf, 5]], -1),
    ]
    fields: Any = [
        ("NAME", "S8"),
        ("TEXT", "U5"),
        ("FLAG", "?"),
        ("B", "u1"),
        ("SB", "i1"),
        ("U2", ">u2"),
        ("U4", "<u4"),
    ]
    return np.array(rows, [*fields, ("U8", ">u8"), ("RATE", ">f4", (3,)), ("M", "<f8", (2, 2)), ("C", ">c16")])


def response() -> Any:
    """Return a table with columns of variable length, as in a response matrix."""
    matrix = np.empty(3, [("ENERG_LO", ">f4"), ("F_CHAN", "O"), ("MATRIX", "O")])
    matrix["ENERG_LO"] = [1, 2, 3]
    matrix["F_CHAN"] = [np.arange(n, dtype=">i2") for n in (1, 0, 2)]
    matrix["MATRIX"] = [np.arange(n, dtype=">f4") for n in (4, 0, 62)]
    return matrix


def products() -> list[DataProduct]:
    cards = (Card("TFORM2", "PI(2)"), Card("TFORM3", "PE(62)"), Card("PCOUNT", 270), Card("TUNIT1", "keV"))
    records = table()[["NAME", "U2"]].astype(np.dtype((np.record, [("NAME", "S8"), ("U2", ">u2")])))
    unlucky = np.frombuffer(b"".join(b"\0" * shift + NULL * 20 for shift in (0, 1, 1)), "u1")
    return [
        DataProduct("mosaic_image", META_DATA, (PRIMARY, *image_units())),
        DataProduct(
            "isgri_lc", {}, (PRIMARY, DataUnit("T", data=table(), hdu_type="bintable", units_dict={"RATE": "s"}))
        ),
        DataProduct("", {}, (PRIMARY, DataUnit("ISGR-RMF.-RSP", cards, response(), "bintable"))),
        DataProduct("records", {}, (PRIMARY, DataUnit("R", data=records, hdu_type="bintable"))),
        DataProduct("empty", {}, (PRIMARY, DataUnit("E", data=np.zeros(0, [("X", ">f4")]), hdu_type="bintable"))),
        DataProduct("unlucky", {}, (PRIMARY, DataUnit("U", data=unlucky, hdu_type="image"))),
    ]


@dataclass(frozen=True)
class Decoded:
    """What a client decoded from a response."""

    result: Mapping[str, Any]
    folder: Path

    def array(self, product: int, unit: int) -> Any:
        return np.load(self.folder / f"{product}.{unit}.npy")

    def written(self, product: int) -> tuple[DataUnit, ...]:
        return fits.read((self.folder / f"{product}.fits").read_bytes())


def decode(python: Path, folder: Path, answer_products: Mapping[str, Any]) -> Decoded:
    """Let a client decode a response."""
    answer = {
        "query_status": "done",
        "products": answer_products,
        "exit_status": dict.fromkeys(("message", "error_message", "debug_message", "comment", "warning"), "")
        | {"status": 0},
        "job_monitor": {"job_id": "a", "session_id": "b", "status": "done"},
        "job_status": "done",
        "session_id": "c",
    }
    (folder / "answer.json").write_text(json.dumps(answer, allow_nan=False))
    script = str(CLIENT_SCRIPTS / "decode_products.py")
    result = run_forked(python, [script, str(folder / "answer.json"), str(folder)], folder, client_environment(), 120)
    assert result.returncode == 0, result.stderr
    decoded = json.loads(result.stdout.splitlines()[-1])
    assert "error" not in decoded, decoded["error"]
    return Decoded(decoded, folder)


@pytest.fixture(scope="module", params=RELEASES)
def decoded(
    request: pytest.FixtureRequest, client_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Decoded:
    """Let each release decode all products."""
    catalog = {
        "cat_frame": "fk5",
        "cat_coord_units": "deg",
        "cat_column_names": ["meta_ID", "src_names", "significance", "ra", "dec"],
        "cat_column_list": [[1, 2], ["GX 349+2", "4U 1700-377"], [1.5, math.nan], [256.4, 255.9], [-36.4, -37.8]],
        "cat_lon_name": "ra",
        "cat_lat_name": "dec",
    }
    answer = {
        "numpy_data_product_list": [wire.encode_product(product) for product in products()],
        "binary_data_product_list": [wire.encode_binary(b"root" + NULL * 5)],
        "catalog": wire.encode_catalog(catalog),
    }
    return decode(client_python(request.param), tmp_path_factory.mktemp("client"), answer)


def units() -> list[Any]:
    """Return a parameter set for each data unit with an array."""
    return [
        pytest.param(p, u, id=f"{product.name or 'unnamed'}-{unit.name}")
        for p, product in enumerate(products())
        for u, unit in enumerate(product.units)
        if unit.data is not None
    ]


@pytest.mark.parametrize(("product", "unit"), units())
def test_a_client_has_the_same_bits(decoded: Decoded, product: int, unit: int) -> None:
    data = products()[product].units[unit].data
    assert data is not None
    assert same_bits(decoded.array(product, unit), wire.portable(data))


@pytest.mark.parametrize(("product", "unit"), units())
def test_a_client_writes_them_as_fits(decoded: Decoded, product: int, unit: int) -> None:
    assert "not_written" not in decoded.result["products"][product]
    data = products()[product].units[unit].data
    assert data is not None
    wanted, found = wire.portable(data), decoded.written(product)[unit].data
    assert found is not None
    if wanted.dtype.names:
        assert found.dtype.names == wanted.dtype.names
        for name in wanted.dtype.names:
            text = wanted.dtype[name].kind == "U"
            assert same_bits(found[name], wanted[name].astype("S5") if text else wanted[name])
    else:
        assert same_bits(found, wanted)


def test_a_response_matrix_written_by_a_client_has_the_format_of_its_columns(decoded: Decoded) -> None:
    header = {card.keyword: card.value for card in decoded.written(2)[1].header}
    assert (header["TFORM2"], header["TFORM3"], header["PCOUNT"]) == ("2I", "62E", 0)


def test_meta_data_arrive_without_loss(decoded: Decoded) -> None:
    """A null becomes an empty text and true becomes 1; all else is unchanged, including nulls of nested JSON."""
    assert decoded.result["products"][0]["meta_data"] == {**META_DATA, "nothing": "", "flag": 1}


def test_headers_arrive_with_the_last_comment(decoded: Decoded) -> None:
    header = decoded.result["products"][0]["units"][0]["header"]
    assert header == {card.keyword: card.value for card in PRIMARY.header}
    assert header["COMMENT"] == "two"


def test_files_and_catalogues_arrive(decoded: Decoded) -> None:
    binary, catalog = decoded.result["products"][len(products()) :]
    assert (decoded.folder / f"{len(products())}.bin").read_bytes() == b"root" + NULL * 5
    assert binary["kind"] == "bytes"
    assert catalog["columns"][1:3] == [["GX 349+2", "4U 1700-377"], [1.5, None]]


def test_1_0_reads_a_table_from_its_bare_text(client_python: Callable[[str], Path], tmp_path: Path) -> None:
    table = wire.AsciiTable("# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a, datatype: int64}\na\n7\n")
    result = decode(
        client_python("1.0"), tmp_path, {"astropy_table_product_ascii_list": [wire.encode_ascii_table(table)]}
    ).result
    assert result["products"] == [{"kind": "table", "columns": [[7]]}]


def test_1_3_5_reads_tables_files_pictures_and_texts_as_objects(
    client_python: Callable[[str], Path], tmp_path: Path
) -> None:
    table = wire.AsciiTable(
        "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a, datatype: int64}\na\n7\n", "t", {"src_name": "x"}
    )
    answer = {
        "binary_data_product_list": [wire.encode_binary(NULL, name="lc.root", form="object")],
        "astropy_table_product_ascii_list": [wire.encode_ascii_table(table, form="object")],
        "binary_image_product_list": [wire.encode_picture(wire.Picture(png(), "png", "picture"))],
        "text_product_list": [wire.encode_text(wire.Text("some text", "text"))],
    }
    result = decode(client_python("1.3.5"), tmp_path, answer).result
    binary, table_seen, picture, text = result["products"]
    assert (binary["name"], (tmp_path / "0.bin").read_bytes()) == ("lc.root", NULL)
    assert (table_seen["name"], table_seen["columns"]) == ("t", [[7]])
    assert (picture["name"], (tmp_path / "2.bin").read_bytes()) == ("picture", png())
    assert (text["name"], text["value"]) == ("text", "some text")


@pytest.mark.parametrize("release", RELEASES)
def test_arrays_arrive_from_text(client_python: Callable[[str], Path], tmp_path: Path, release: str) -> None:
    rows = table()[["NAME", "FLAG", "B", "U2", "M"]]
    rows = rows.astype([("NAME", "S8"), ("FLAG", "?"), ("B", "u1"), ("U2", ">u2"), ("M", "<f8", (2, 2))])
    rows["M"][1] = 0
    arrays = [np.arange(6.0).reshape(2, 3), np.arange(24, dtype=">i2").reshape(2, 3, 4), rows]
    sent = DataProduct(
        "p", units=tuple(DataUnit(f"U{n}", data=array, hdu_type="image") for n, array in enumerate(arrays))
    )
    result = decode(
        client_python(release), tmp_path, {"numpy_data_product_list": [wire.encode_product(sent, form="json")]}
    )
    for n, array in enumerate(arrays):
        assert same_bits(result.array(0, n), array)


def test_without_breaking_up_the_word_today_s_client_has_other_numbers(
    client_python: Callable[[str], Path], tmp_path: Path
) -> None:
    """The reason why we do."""
    unlucky = products()[5]
    encoded = wire.encode_product(unlucky)
    array = unlucky.units[1].data
    assert array is not None
    encoded["data_unit_list"][1]["binarys"] = base64.b64encode(pickle_writing.dumps(array)).decode()
    result = decode(client_python("1.3.5"), tmp_path, {"numpy_data_product_list": [encoded]})
    assert result.array(0, 1).shape == array.shape
    assert not np.array_equal(result.array(0, 1), array)
