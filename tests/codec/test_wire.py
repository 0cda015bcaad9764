"""Products on the wire: what every release of the client can bear, and nothing lost that the wire can carry."""

from __future__ import annotations

import ast
import base64
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oda_proxy.codec import pickle_writing, wire
from oda_proxy.codec.product import Card, DataProduct, DataUnit
from oda_proxy.errors import CodecError, ForbiddenPickleError
from tests.support.examples import examples
from tests.support.random_arrays import images, same_bits, tables

NULL = base64.b64decode("null")
HDU_TYPES = st.sampled_from(["primary", "image", "bintable"])
TEXTS = st.text(st.characters(codec="utf-8"), max_size=10)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(), TEXTS, st.just("null")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)


def product(*data: Any, meta_data: Any = None) -> DataProduct:
    """Make a product of arrays."""
    units = [
        DataUnit(f"U{n}", data=one, hdu_type="bintable" if one.dtype.names else "image") for n, one in enumerate(data)
    ]
    return DataProduct("p", {} if meta_data is None else meta_data, tuple(units))


def sent(obj: Any) -> Any:
    """Send JSON as strictly as a server may."""
    return json.loads(json.dumps(obj, allow_nan=False))


def spoilt(obj: Any) -> Any:
    """Do to an answer what every release after 1.0 does to it."""
    return ast.literal_eval(str(sent(obj)).replace("null", "None"))


def only(unit_of: DataProduct) -> Any:
    """Return the array of a product's only data unit."""
    (unit,) = unit_of.units
    return unit.data


# -- arrays ---------------------------------------------------------------------------------------


@settings(max_examples=examples(80), deadline=None)
@given(array=st.one_of(images(), tables()))
def test_arrays_come_back_bit_for_bit_from_clients_that_spoil_their_answers(array: Any) -> None:
    back = wire.decode_product(spoilt(wire.encode_product(product(array))))
    assert same_bits(only(back), wire.portable(array))


@settings(max_examples=examples(60), deadline=None)
@given(array=tables(variable=False))
def test_a_portable_array_is_sent_unchanged(array: Any) -> None:
    portable = wire.portable(array)
    for name in array.dtype.names:
        assert np.array_equal(portable[name], array[name], equal_nan=array.dtype[name].base.kind in "fc")
        if array.dtype[name].base != np.dtype("i1"):
            assert same_bits(portable[name], array[name])


def test_signed_bytes_are_widened() -> None:
    """A client writes a plain column of them as logical values."""
    table = np.array([(-128, [1, -1])], [("a", "i1"), ("b", "i1", (2,))])
    assert wire.portable(table).dtype == np.dtype([("a", ">i2"), ("b", ">i2", (2,))])
    assert wire.portable(table)["a"].tolist() == [-128]


def test_columns_of_variable_length_are_padded_with_zeros() -> None:
    table = np.empty(3, [("N", "u1"), ("MATRIX", "O"), ("TEXT", "O")])
    table["N"] = [2, 0, 1]
    table["MATRIX"] = [np.array([1, 2], ">f4"), np.zeros(0, ">f4"), np.array([3], ">f4")]
    table["TEXT"] = [np.array([b"a", b"b"]), np.array([b"c"]), np.array([b"d"])]
    cards = (Card("TFORM2", "PE(2)"), Card("TFORM3", "PA(2)"), Card("PCOUNT", 15), Card("NAXIS1", 17), Card("THEAP", 0))
    encoded = wire.encode_product(DataProduct("rmf", units=(DataUnit("M", cards, table, "bintable"),)))
    back = only(wire.decode_product(encoded))
    assert back.dtype == np.dtype([("N", "u1"), ("MATRIX", ">f4", (2,)), ("TEXT", "S2")])
    assert back["MATRIX"].tolist() == [[1, 2], [0, 0], [3, 0]]
    assert back["TEXT"].tolist() == [b"ab", b"c", b"d"]
    assert encoded["data_unit_list"][0]["header"] == {"TFORM2": "2E", "TFORM3": "2A", "PCOUNT": 0, "NAXIS1": 11}


def test_padding_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_MAX_BYTES", 100)
    table = np.empty(2, [("MATRIX", "O")])
    table["MATRIX"] = [np.zeros(20, ">f4"), np.zeros(0, ">f4")]
    with pytest.raises(CodecError, match="padded"):
        wire.portable(table)


def test_records_stay_records_and_plain_tables_plain() -> None:
    table = np.zeros(2, [("TIME", ">f8")])
    records = table.view(np.dtype((np.record, table.dtype)))
    assert only(wire.decode_product(wire.encode_product(product(table)))).dtype.type is np.void
    assert only(wire.decode_product(wire.encode_product(product(records)))).dtype.type is np.record


def test_an_ascii_table_is_sent_as_a_binary_table() -> None:
    """No release of astropy makes one of a plain array."""
    unit = DataUnit("T", data=np.zeros(2, [("a", "f4")]), hdu_type="table")
    assert wire.encode_product(DataProduct("p", units=(unit,)))["data_unit_list"][0]["hdu_type"] == "bintable"


@pytest.mark.parametrize("data", [np.array([object()]), np.array([(object(),)], [("a", "O")])], ids=["image", "table"])
def test_python_objects_are_not_sent(data: Any) -> None:
    with pytest.raises(CodecError):
        wire.encode_product(product(data))


def test_a_hostile_pickle_is_refused() -> None:
    encoded = wire.encode_product(product(np.zeros(1)))
    encoded["data_unit_list"][0]["binarys"] = base64.b64encode(b"\x80\x02cos\nsystem\n.").decode()
    with pytest.raises(ForbiddenPickleError, match=r"os\.system"):
        wire.decode_product(encoded)


# -- the letters null -----------------------------------------------------------------------------


@pytest.mark.parametrize("encode", ["product", "binary"])
def test_base64_never_holds_the_letters_null(encode: str) -> None:
    naive, ours = [], []
    for shift in range(3):
        data = b"\0" * shift + NULL * 50
        array = np.frombuffer(data, "u1")
        if encode == "product":
            naive.append(base64.b64encode(pickle_writing.dumps(array)).decode())
            ours.append(wire.encode_product(product(array))["data_unit_list"][0]["binarys"])
            assert same_bits(only(wire.decode_product(spoilt(wire.encode_product(product(array))))), array)
        else:
            naive.append(base64.urlsafe_b64encode(data).decode())
            ours.append(wire.encode_binary(data))
            assert wire.decode_binary(spoilt([wire.encode_binary(data)])[0]).data == data
    assert any("null" in text for text in naive)
    assert not any("null" in text for text in ours)


def test_words_broken_up_are_read_by_the_decoder_of_the_client() -> None:
    data = NULL * 7 + b"\xff\xfe\xfd"
    assert base64.urlsafe_b64decode(str(wire.encode_binary(data)).encode("ascii", "ignore")) == data


def test_nested_json_text_keeps_its_null() -> None:
    """The notebook's `query_parameters`."""
    parameters = '[{"units": null, "name": "image_scale_min", "value": null}]'
    encoded = wire.encode_product(product(meta_data={"query_parameters": parameters}))
    assert "null" not in json.dumps(encoded)
    assert ast.literal_eval(spoilt(encoded)["meta_data"]) == {"query_parameters": parameters}
    assert json.loads(spoilt(encoded)["meta_data"]) == {"query_parameters": parameters}


# -- meta_data, names, headers --------------------------------------------------------------------


@settings(max_examples=examples(150), deadline=None)
@given(meta_data=st.dictionaries(TEXTS, JSON, max_size=4))
def test_the_text_of_meta_data_is_the_same_as_python_and_as_json(meta_data: Any) -> None:
    text = spoilt(wire.encode_product(product(meta_data=meta_data)))["meta_data"]
    assert ast.literal_eval(text) == json.loads(text)
    assert not {type(leaf) for leaf in leaves(json.loads(text))} & {type(None), bool}
    assert json.loads(text).keys() == meta_data.keys()


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for member in value for leaf in leaves(member)] if isinstance(value, list) else [value]


def test_meta_data_without_a_common_form_is_rewritten_and_no_number_changes() -> None:
    meta_data = {"none": None, "yes": True, "no": False, "nan": math.nan, "n": 0.1, "list": [None, 1], "text": "true"}
    back = wire.decode_product(wire.encode_product(product(meta_data=meta_data))).meta_data
    assert back == {"none": "", "yes": 1, "no": 0, "nan": "nan", "n": 0.1, "list": ["", 1], "text": "true"}


def test_half_a_surrogate_is_refused() -> None:
    with pytest.raises(CodecError):
        wire.encode_product(product(meta_data={"a": "\ud800"}))


def test_a_missing_name_is_empty() -> None:
    encoded = wire.encode_product(product(np.zeros(1)))
    back = wire.decode_product({**encoded, "name": None})
    assert back.name == ""
    assert wire.encode_product(back)["name"] == ""


def test_a_data_unit_without_name_is_called_table_as_clients_do() -> None:
    encoded = wire.encode_product(product(np.zeros(1)))
    encoded["data_unit_list"][0]["name"] = None
    assert wire.decode_product(encoded).units[0].name == "table"


def test_of_several_cards_the_last_is_sent_and_none_is_nan() -> None:
    cards = (
        Card("COMMENT", "one"),
        Card("RATE", math.nan),
        Card("UNDEF", None),
        Card("COMMENT", "two"),
        Card("OK", True),
    )
    assert wire.header(DataUnit("U", cards)) == {"COMMENT": "two", "RATE": None, "UNDEF": None, "OK": True}


def test_a_list_in_a_header_becomes_text_as_later_clients_make_it() -> None:
    """1.0 cannot write a list."""
    encoded = wire.encode_product(product(np.zeros(1)))
    encoded["data_unit_list"][0]["header"] = {"scw_list": ["066500220010.001", "066500230010.001"]}
    assert wire.decode_product(encoded).units[0].header == (Card("scw_list", "066500220010.001,066500230010.001,"),)


def test_a_product_may_come_as_json_text_with_nan() -> None:
    encoded = {**wire.encode_product(product(np.zeros(1))), "meta_data": '{"rate": NaN, "on": true, "off": null}'}
    back = wire.decode_product(json.dumps(encoded))
    assert back.meta_data["on"] is True
    assert math.isnan(back.meta_data["rate"])


def test_units_and_meta_data_of_a_data_unit_are_kept() -> None:
    unit = DataUnit(
        "T", data=np.zeros(1, [("E", "f4")]), hdu_type="bintable", meta_data={"a": [1]}, units_dict={"E": "keV"}
    )
    (back,) = wire.decode_product(sent(wire.encode_product(DataProduct("p", units=(unit,))))).units
    assert (back.meta_data, back.units_dict) == ({"a": [1]}, {"E": "keV"})


@pytest.mark.parametrize(
    "obj",
    [
        None,
        [],
        "text",
        "[" * 100_000,
        {},
        {"data_unit_list": None},
        {"data_unit_list": [None]},
        {"data_unit_list": [{"hdu_type": "cube"}]},
        {"data_unit_list": [{"hdu_type": []}]},
        {"data_unit_list": [{"binarys": 5}]},
        {"data_unit_list": [{"binarys": "é"}]},
        {"data_unit_list": [{"binarys": "A"}]},
        {"data_unit_list": [{"header": []}]},
        {"data_unit_list": [{"header": {"A": {}}}]},
        {"data_unit_list": [{"data": 5, "dt": "f4"}]},
        {"data_unit_list": [{"data": "[[1]]", "dt": "object"}]},
        {"data_unit_list": [{"data": "[[1]]", "dt": "__import__('os')"}]},
        {"data_unit_list": [{"data": "[[1]", "dt": "f4"}]},
        {"data_unit_list": [{"data": "[[1]]", "dt": "S2000000000"}]},
        {"data_unit_list": [{"data": "[[1]]", "dt": "[('a', 'S2000000000')]"}]},
        {"data_unit_list": [{"data": "[[1], [2, 3]]", "dt": "f4"}]},
        {"data_unit_list": [], "name": 5},
        {"data_unit_list": [], "meta_data": "eval('1')"},
        {"data_unit_list": [{"units_dict": "keV"}]},
    ],
    ids=lambda obj: str(obj)[:60],
)
def test_what_is_no_product_is_refused(obj: Any) -> None:
    with pytest.raises(CodecError):
        wire.decode_product(obj)


# -- arrays as text -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.arange(24, dtype=">i2").reshape(2, 3, 4),
        np.array(
            [(1, True, b"a", "nul null", [1.5, 2])],
            [("i", "<i8"), ("b", "?"), ("s", "S3"), ("u", "U8"), ("v", ">f4", (2,))],
        ),
        np.array([(2.5,)], np.dtype((np.record, [("TIME", ">f8")]))),
    ],
    ids=["image", "cube", "table", "records"],
)
def test_arrays_are_sent_as_text(array: Any) -> None:
    encoded = spoilt(wire.encode_product(product(array), form="json"))
    assert encoded["data_unit_list"][0]["binarys"] is None
    assert ast.literal_eval(encoded["data_unit_list"][0]["data"])
    back = only(wire.decode_product(encoded))
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


@pytest.mark.parametrize(
    "array",
    [
        np.array([[math.nan]]),
        np.array([[math.inf]]),
        np.array([[1j]]),
        np.zeros(3),
        np.array([(b"\xff",)], [("s", "S1")]),
    ],
    ids=str,
)
def test_an_array_without_a_text_form_is_refused(array: Any) -> None:
    with pytest.raises(CodecError):
        wire.encode_product(product(array), form="json")


# -- other products -------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_files_come_back_in_both_forms(data: bytes) -> None:
    assert wire.decode_binary(sent(wire.encode_binary(data))) == wire.Binary(data)
    encoded = spoilt(wire.encode_binary(data, name="lc.root", form="object"))
    assert wire.decode_binary(encoded) == wire.Binary(data, "lc.root")
    assert wire.decode_binary(json.dumps(encoded)) == wire.Binary(data, "lc.root")


@pytest.mark.parametrize("obj", [None, 5, "é", "A", {}, {"data": "AAAA", "md5": "0"}, '{"data": "AAAA"}', "{"])
def test_what_is_no_file_is_refused(obj: Any) -> None:
    with pytest.raises(CodecError):
        wire.decode_binary(obj)


def test_a_catalogue_comes_back_and_nan_becomes_null() -> None:
    catalog = {"cat_frame": "fk5", "cat_column_names": ["ra", "n"], "cat_column_list": [[1.5, math.nan], [1, 2]]}
    expected = {**catalog, "cat_column_list": [[1.5, None], [1, 2]]}
    assert sent(wire.encode_catalog(catalog)) == expected
    assert wire.decode_catalog(json.dumps(catalog)) == expected


@pytest.mark.parametrize("obj", [None, {}, "x", {"cat_column_names": ["a"], "cat_column_list": []}])
def test_what_is_no_catalogue_is_refused(obj: Any) -> None:
    with pytest.raises(CodecError):
        wire.decode_catalog(obj)


def test_tables_come_back_in_both_forms() -> None:
    text = "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a, datatype: int64}\na\n1\n"
    table = wire.AsciiTable(text, "t", {"unit": "s"})
    assert wire.encode_ascii_table(table) == text
    assert wire.decode_ascii_table(text) == wire.AsciiTable(text)
    assert wire.decode_ascii_table(sent(wire.encode_ascii_table(table, form="object"))) == table
    assert wire.decode_ascii_table(json.dumps(wire.encode_ascii_table(table, form="object"))) == table


def test_meta_data_that_a_client_would_take_for_a_name_is_sent_as_an_object() -> None:
    plain = wire.encode_ascii_table(wire.AsciiTable("a\n1", "t", {"unit": "s"}), form="object")
    named = wire.encode_ascii_table(wire.AsciiTable("a\n1", "t", {"src_name": "GX 1+4"}), form="object")
    assert isinstance(plain, dict)
    assert isinstance(plain["meta_data"], str)
    assert isinstance(named, dict)
    assert named["meta_data"] == {"src_name": "GX 1+4"}


@pytest.mark.parametrize("obj", [None, 5, {}, '{"ascii": 5}', "{"])
def test_what_is_no_table_is_refused(obj: Any) -> None:
    with pytest.raises(CodecError):
        wire.decode_ascii_table(obj)


def test_pictures_come_back() -> None:
    picture = wire.Picture(b"\x89PNG\r\n\x1a\n" + NULL * 5, "png", "p", {"a": 1}, "p.png")
    assert wire.decode_picture(spoilt(wire.encode_picture(picture))) == picture
    assert wire.decode_picture(json.dumps(wire.encode_picture(picture))) == picture
    assert "filename" not in wire.encode_picture(wire.Picture(b"", "png"))


@pytest.mark.parametrize(
    "obj", [None, "x", {}, {"img_type": "png"}, {"img_type": "png", "b64data": "AAAA", "filename": 5}]
)
def test_what_is_no_picture_is_refused(obj: Any) -> None:
    with pytest.raises(CodecError):
        wire.decode_picture(obj)


def test_texts_come_back_in_every_form() -> None:
    text = wire.Text("value", "t", {"a": 1})
    assert wire.decode_text(sent(wire.encode_text(text))) == text
    assert wire.decode_text(json.dumps(wire.encode_text(text))) == text
    assert wire.decode_text("plain text") == wire.Text("plain text")


@pytest.mark.parametrize("obj", [None, 5, {}, {"value": 5}, '{"name": "t"}'])
def test_what_is_no_text_is_refused(obj: Any) -> None:
    with pytest.raises(CodecError):
        wire.decode_text(obj)
