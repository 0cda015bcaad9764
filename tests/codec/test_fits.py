"""FITS files are restored bit for bit, and astropy reads the same."""

from __future__ import annotations

import io
import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits as astropy_fits
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from oda_proxy.codec import fits
from oda_proxy.codec.product import Card, DataUnit
from oda_proxy.errors import CodecError
from tests.support.examples import examples
from tests.support.paths import SAMPLES
from tests.support.random_arrays import images, same_bits, tables

if TYPE_CHECKING:
    from collections.abc import Sequence

PRIMARY = DataUnit("PRIMARY", hdu_type="primary")


def written(hdus: Sequence[Any]) -> bytes:
    """Have astropy write a file."""
    stream = io.BytesIO()
    astropy_fits.HDUList(hdus).writeto(stream)
    return stream.getvalue()


def seen_by_astropy(content: bytes) -> Any:
    """Have astropy read the last HDU of a file."""
    with astropy_fits.open(io.BytesIO(content), memmap=False) as hdus:
        hdus[-1].verify("exception")
        return hdus[-1].data


def one_table(**columns: Any) -> Any:
    """Make a table of columns."""
    fields: Any = [(name, np.asarray(values).dtype, np.asarray(values).shape[1:]) for name, values in columns.items()]
    table = np.empty(len(next(iter(columns.values()))), np.dtype(fields))
    for name, values in columns.items():
        table[name] = values
    return table


def again(unit: DataUnit) -> DataUnit:
    """Write a data unit behind an empty primary one, and read it."""
    return fits.read(fits.write([PRIMARY, unit]))[1]


# -- arrays ---------------------------------------------------------------------------------------


@settings(max_examples=examples(60), deadline=None)
@given(image=images())
def test_images_come_back_bit_for_bit(image: Any) -> None:
    back = again(DataUnit("I", data=image, hdu_type="image"))
    assert back.data is not None
    assert same_bits(back.data, image)


@settings(max_examples=examples(100), deadline=None)
@given(table=tables())
def test_tables_come_back_bit_for_bit(table: Any) -> None:
    back = again(DataUnit("T", data=table, hdu_type="bintable"))
    assert back.data is not None
    ascii_only = [(name, f"S{dtype.itemsize // 4}" if dtype.kind == "U" else dtype) for name, dtype in fields_of(table)]
    assert same_bits(back.data, table.astype(ascii_only))


def fields_of(table: Any) -> list[tuple[str, Any]]:
    return [(name, table.dtype[name]) for name in table.dtype.names]


@pytest.mark.filterwarnings("ignore:chararray")
@settings(max_examples=examples(60), deadline=None)
@given(table=tables())
def test_what_is_written_is_the_same_table_to_astropy(table: Any) -> None:
    with np.errstate(all="ignore"):
        seen = seen_by_astropy(fits.write([PRIMARY, DataUnit("T", data=table, hdu_type="bintable")]))
        for name, dtype in fields_of(table):
            column = seen[name]
            if dtype.kind in "SU":  # to astropy, as to the standard, blanks at the end are nothing
                assert [str(text) for text in column] == [text.rstrip(" ") for text in table[name].astype("U").tolist()]
            elif dtype.kind == "O":
                if table[name][0].dtype.kind != "u":  # it does not shift these, although the standard says so (7.3.5)
                    assert all(
                        same_bits(np.asarray(one), other) for one, other in zip(column, table[name], strict=True)
                    )
            elif dtype.base == np.dtype(
                "i1"
            ):  # it shows these as the floating-point numbers that the shift makes of them
                assert np.array_equal(column, table[name])
            else:
                assert same_bits(np.asarray(column), table[name])


def test_scaled_columns_become_physical_values_and_the_header_is_adapted() -> None:
    unit = fits.read((SAMPLES / "table.fits").read_bytes())[1]
    assert unit.data is not None
    assert unit.data["SCALED"].tolist() == [10.5, 11.0]
    assert unit.data["COUNTS"].tolist() == [40000, 65535]
    header = {card.keyword: card.value for card in unit.header}
    assert header["TFORM4"] == "D"
    assert header["TZERO3"] == 32768
    assert not {"TSCAL4", "TZERO4"} & header.keys()


def test_undefined_scaled_values_are_nan() -> None:
    hdu = astropy_fits.BinTableHDU.from_columns([astropy_fits.Column("N", "I", null=-1, array=np.array([4, -1]))])
    hdu.header["TSCAL1"] = 0.5
    unit = fits.read(written([astropy_fits.PrimaryHDU(), hdu]))[1]
    assert unit.data is not None
    assert unit.data["N"][0] == 2
    assert math.isnan(unit.data["N"][1])


def test_a_response_matrix_of_astropy_is_written_again_byte_for_byte() -> None:
    content = (SAMPLES / "variable.fits").read_bytes()
    assert fits.write(fits.read(content)) == content


@pytest.mark.parametrize(
    "column",
    [
        astropy_fits.Column("X", "11X", array=np.arange(22).reshape(2, 11) % 3 == 0),
        astropy_fits.Column("D", "6D", dim="(3,2)", array=np.arange(12.0).reshape(2, 2, 3)),
        astropy_fits.Column("A", "6A", dim="(2,3)", array=np.array([[b"ab", b"c", b""], [b"d", b"ef", b"gh"]])),
        astropy_fits.Column("Q", "QD()", array=np.array([np.arange(3.0), np.arange(1.0)], dtype=object)),
        astropy_fits.Column("L", "3L", array=np.array([[True, False, True], [False, False, True]])),
        astropy_fits.Column("PL", "PL()", array=np.array([np.array([True, False]), np.array([True])], dtype=object)),
        astropy_fits.Column("N", "J", null=-1, array=np.array([1, -1], dtype="i4")),
        astropy_fits.Column("C", "2M", array=np.ones((2, 2), complex)),
    ],
    ids=lambda column: column.format,
)
@pytest.mark.filterwarnings("ignore:chararray")
def test_every_kind_of_column_of_astropy_is_read_and_written_again_byte_for_byte(column: Any) -> None:
    content = written([astropy_fits.PrimaryHDU(), astropy_fits.BinTableHDU.from_columns([column], name="T")])
    units = fits.read(content)
    assert fits.write(units) == content
    assert units[1].data is not None
    for ours, theirs in zip(units[1].data[column.name], seen_by_astropy(content)[column.name], strict=True):
        assert np.array_equal(ours, theirs.encode("ascii") if ours.dtype.kind == "S" else theirs)


@pytest.mark.parametrize("dtype", ["u1", ">i2", ">u2", ">i4", ">u4", ">i8", ">u8", ">f4", ">f8", "i1"])
def test_images_of_astropy_are_read_and_written_again_byte_for_byte(dtype: str) -> None:
    image = np.arange(6).reshape(2, 3).astype(dtype)
    content = written([astropy_fits.PrimaryHDU(image)])
    (unit,) = fits.read(content)
    assert unit.data is not None
    assert np.array_equal(unit.data, image)
    assert fits.write([unit]) == content


def test_a_scaled_image_becomes_physical_values_and_undefined_pixels_nan() -> None:
    hdu = astropy_fits.ImageHDU(np.array([1, 2, -32768], ">i2"))
    hdu.header["BSCALE"], hdu.header["BZERO"], hdu.header["BLANK"] = 0.5, 10.0, -32768
    unit = fits.read(written([astropy_fits.PrimaryHDU(), hdu]))[1]
    assert unit.data is not None
    assert unit.data.tolist()[:2] == [10.5, 11.0]
    assert math.isnan(unit.data[2])
    assert not {"BSCALE", "BZERO", "BLANK"} & {card.keyword for card in unit.header}


def test_a_compressed_image_is_decompressed() -> None:
    image = np.arange(400, dtype=">i4").reshape(20, 20)
    content = written([astropy_fits.PrimaryHDU(), astropy_fits.CompImageHDU(image, compression_type="RICE_1")])
    unit = fits.read(content)[1]
    assert unit.hdu_type == "image"
    assert unit.data is not None
    assert np.array_equal(unit.data, image)


def test_an_ascii_table_becomes_a_binary_table() -> None:
    columns = [
        astropy_fits.Column("N", "I5", ascii=True, array=np.array([1, -2])),
        astropy_fits.Column("A", "A4", ascii=True, array=np.array(["ab", "c"])),
    ]
    unit = fits.read(written([astropy_fits.PrimaryHDU(), astropy_fits.TableHDU.from_columns(columns)]))[1]
    assert unit.hdu_type == "bintable"
    assert unit.data is not None
    assert unit.data["N"].tolist() == [1, -2]
    assert unit.data["A"].tolist() == [b"ab  ", b"c   "]
    assert again(unit).data is not None


def test_a_missing_primary_unit_is_put_first() -> None:
    units = fits.read(fits.write([DataUnit("I", data=np.zeros((2, 2)), hdu_type="image")]))
    assert [unit.hdu_type for unit in units] == ["primary", "image"]


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((2, 2), complex),
        np.zeros((2, 2), "f2"),
        np.zeros((2, 2), "?"),
        np.zeros(()),
        np.array(["text"]),
        np.zeros((2, 2), [("a", "f4")]),
        np.zeros(2, [("a", "f2")]),
        np.zeros(2, [("a", "M8[s]")]),
        np.array([("é",)], [("a", "U2")]),
        np.array([(b"\xe9",)], [("a", "S2")]),
        np.array([(np.array(["ab"]),)], [("a", "O")]),
        np.array([(5,)], [("a", "O")]),
    ],
    ids=str,
)
def test_a_type_that_fits_cannot_store_is_refused(data: Any) -> None:
    with pytest.raises(CodecError):
        fits.write([DataUnit("X", data=data, hdu_type="bintable" if data.dtype.names else "image")])


# -- headers --------------------------------------------------------------------------------------

PRINTABLE = st.characters(min_codepoint=32, max_codepoint=126)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(PRINTABLE, max_size=150).map(str.rstrip),
)
KEYWORDS = st.from_regex(r"[A-Z][A-Z0-9_-]{0,6}X", fullmatch=True)


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(st.tuples(KEYWORDS, VALUES), max_size=5))
def test_cards_come_back_with_every_digit_and_in_their_order(pairs: list[tuple[str, Any]]) -> None:
    cards = [Card(keyword, value) for keyword, value in pairs]
    assume(all(map(fits.can_store, cards)))
    back = list(fits.read(fits.write([DataUnit("", tuple(cards), hdu_type="primary")]))[0].header[4:])
    assert back == cards
    assert [type(card.value) for card in back] == [type(card.value) for card in cards]


@pytest.mark.parametrize(
    "card",
    [
        Card("COMMENT", "a comment, which may be repeated"),
        Card("HISTORY", "was made"),
        Card("", "neither of these"),
        Card("UNDEF", None, "has no value"),
        Card("LONG", "a long text " * 20 + "ends", "with a comment"),
        Card("QUOTED", "it's 'quoted'", "comment"),
        Card("HIERARCHICAL KEY", 5.0, "of some length"),
        Card("detection_threshold", "5.0"),
        Card("DIGITS", -1.2345678901234567e-100, "needs more than 20 characters"),
        Card("DP1", "AXIS.1: 2", "a record"),
    ],
    ids=lambda card: card.keyword,
)
def test_cards_of_every_kind_come_back_with_their_comments(card: Card) -> None:
    cards = (card, Card("BETWEEN", 1), card)
    assert fits.can_store(card)
    assert fits.read(fits.write([DataUnit("", cards, hdu_type="primary")]))[0].header[4:] == cards


@pytest.mark.parametrize("value", ["é", "line\nbreak", "blanks  ", "'/", math.nan, math.inf])
def test_a_value_that_no_card_can_store_is_refused(value: Any) -> None:
    assert not fits.can_store(Card("KEY", value))
    with pytest.raises(CodecError, match="KEY"):
        fits.write([DataUnit("", (Card("KEY", value),), hdu_type="primary")])


def test_a_long_comment_takes_several_cards() -> None:
    back = fits.read(fits.write([DataUnit("", (Card("COMMENT", "x" * 100),), hdu_type="primary")]))[0].header[4:]
    assert [card.value for card in back] == ["x" * 72, "x" * 28]


def test_cards_that_contradict_the_array_are_corrected_and_the_others_kept() -> None:
    cards = (
        Card("XTENSION", "BINTABLE", "kept"),
        Card("NAXIS1", 99, "width"),
        Card("TFIELDS", 7),
        Card("TFORM1", "PE(62)"),
        Card("THEAP", 5),
        Card("TFORM2", "1D"),
        Card("TUNIT1", "keV"),
        Card("TSCAL2", 0.5),
        Card("BUNIT", "counts"),
    )
    table = one_table(MATRIX=np.zeros((2, 3), ">f4"), RATE=np.zeros(2, ">f8"))
    assert fits.adjusted(cards, table) == (
        Card("XTENSION", "BINTABLE", "kept"),
        Card("NAXIS1", 20, "width"),
        Card("TFIELDS", 2),
        Card("TFORM1", "3E"),
        Card("TFORM2", "1D"),
        Card("TUNIT1", "keV"),
        Card("BUNIT", "counts"),
    )


# -- damaged files --------------------------------------------------------------------------------


def variable_table() -> bytes:
    return (SAMPLES / "variable.fits").read_bytes()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"SIMPLE  =",
        b"\x1f\x8b" + b"\0" * 100,
        variable_table()[:-2880],
        variable_table().replace(b"PE(3)", b"PX(3)"),
        variable_table().replace(b"PE(3)", b"ZZ(3)"),
        variable_table().replace(b"TTYPE2  = 'MATRIX", b"TTYPE2  = 'NAME  "),
        variable_table().replace(b"NAXIS1  =                   16", b"NAXIS1  =                   17"),
        variable_table().replace(b"NAXIS2  =                    2", b"NAXIS2  =           2000000000"),
        variable_table().replace(b"\0\0\0\x03\0\0\0\0", b"\x7f\0\0\x03\0\0\0\0"),
        variable_table().replace(b"\0\0\0\x03\0\0\0\0", b"\0\0\0\x03\0\0\x10\0"),
        variable_table().replace(b"\0\0\0\x03\0\0\0\0", b"\xff\xff\xff\x03\0\0\0\0"),
    ],
)
def test_a_damaged_file_is_refused(content: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy's, of what it finds
        with pytest.raises(CodecError):
            fits.read(content)


def test_rows_that_share_a_piece_of_the_heap_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "_MAX_BYTES", 15)
    with pytest.raises(CodecError, match="larger than 15 bytes"):
        fits.read(variable_table())


def test_a_large_compressed_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((20, 20), ">i4")
    content = written([astropy_fits.PrimaryHDU(), astropy_fits.CompImageHDU(image, compression_type="RICE_1")])
    monkeypatch.setattr(fits, "_MAX_BYTES", 3000)
    with pytest.raises(CodecError, match="larger than 3000 bytes"):
        fits.read(content)


@settings(max_examples=examples(150), deadline=None)
@given(data=st.data())
def test_no_damage_makes_another_error(data: st.DataObject) -> None:
    damaged = bytearray(variable_table())
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.sampled_from(b"\0\xff'()0129=EPTX /"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            units = fits.read(bytes(damaged))
        except CodecError:
            return
    assert all(unit.data is None or unit.data.nbytes <= len(damaged) for unit in units)
