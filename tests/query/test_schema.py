"""A description says of which type, in which unit and with which default a parameter is, in both encodings."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.query.schema import LARGEST, Kind, Schema, SchemaError, read_schema
from tests.support.sample_descriptions import CURVE, IMAGE, INSTRUMENT, OLD_SCHEMA, SCHEMA, SOURCE, item, meta_data


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("RA", Kind.ANGLE),
        ("radius", Kind.ANGLE),
        ("E1_keV", Kind.NUMBER),
        ("max_pointings", Kind.NUMBER),
        ("detection_threshold", Kind.NUMBER),
        ("T1", Kind.TIME),
        ("T2", Kind.TIME),
        ("src_name", Kind.TEXT),
        ("osa_version", Kind.TEXT),
        ("scw_list", Kind.LIST),
        ("selected_catalog", Kind.STRUCTURE),
    ],
)
@pytest.mark.parametrize("schema", [SCHEMA, OLD_SCHEMA], ids=["today", "old"])
def test_both_encodings_tell_the_same_kinds(schema: Schema, name: str, kind: Kind) -> None:
    assert schema.products["isgri_image"][name].kind is kind


def test_only_todays_encoding_tells_the_type_of_what_has_no_default() -> None:
    kinds = [schema.products["isgri_image"]["image_scale_min"].kind for schema in (SCHEMA, OLD_SCHEMA)]

    assert kinds == [Kind.NUMBER, Kind.VERBATIM]


@pytest.mark.parametrize(
    ("name", "default", "units", "kind"),
    [
        ("T1", "2001-12-11T00:00:00.000", None, Kind.TIME),
        ("osa_version", None, "str", Kind.TEXT),
        ("scw_list", [], "names_list", Kind.LIST),
        ("E1_keV", None, "keV", Kind.NUMBER),
        ("radius", None, "deg", Kind.ANGLE),
        ("image_scale_min", None, None, Kind.VERBATIM),
        ("level", "ordinary", None, Kind.VERBATIM),
    ],
)
def test_the_dispatcher_of_2019_tells_less(name: str, default: object, units: str | None, kind: Kind) -> None:
    part = json.dumps([{"query_name": "q"}, {"name": name, "value": default, "units": units}])

    assert read_schema(meta_data(part, products={"p": "q"})).products["p"][name].kind is kind


def test_a_product_has_the_parameters_of_the_source_the_instrument_and_itself() -> None:
    named = set(SCHEMA.products["isgri_lc"])

    assert {"RA", "radius", "time_bin"} <= named
    assert "detection_threshold" not in named


def test_what_belongs_to_the_client_is_no_parameter() -> None:
    assert not {"token", "user_catalog"} & set(SCHEMA.products["isgri_lc"])


def test_a_default_keeps_its_digits() -> None:
    text = meta_data(SOURCE, INSTRUMENT, IMAGE, CURVE).replace("265.97845833", "265.978458330000000001")

    assert read_schema(text).products["isgri_lc"]["RA"].default == "265.978458330000000001"


def test_the_argument_for_a_unit_or_format_is_no_parameter_of_its_own() -> None:
    described = SCHEMA.products["isgri_lc"]

    assert [described[name].written_by for name in ("T1", "T2", "time_bin", "band")] == [
        "T_format",
        "T_format",
        "time_bin_format",
        "band_units",
    ]
    assert not {"T_format", "time_bin_format", "band_units"} & set(described)
    assert OLD_SCHEMA.products["isgri_lc"]["T1"].written_by == "T_format"


def test_a_default_in_another_unit_than_values_are_converted_to_stands_apart() -> None:
    apart = {name for name, parameter in SCHEMA.products["isgri_lc"].items() if parameter.default_apart}

    assert apart == {"band"}


def test_a_type_that_contradicts_the_default_is_not_believed() -> None:
    odd = [{"query_name": "q"}, item("x", "float", "ten")]

    assert read_schema(meta_data(odd, products={"p": "q"})).products["p"]["x"].kind is Kind.VERBATIM


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "{}",
        "[]",
        "[[]]",
        '[[{"instrumet":"a"}]]',
        '[[{"instrumet":"a"},{"prod_dict":{}},["x"]]]',
        '[[{"instrumet":"a"},{"prod_dict":[]},[{"query_name":"x"}]]]',
        '[[{"instrumet":"a"},{"prod_dict":{}},"not JSON"]]',
        "[" * 100_000,
        " " * (LARGEST + 1),
    ],
)
def test_what_is_no_description_is_an_error(text: str) -> None:
    with pytest.raises(SchemaError):
        read_schema(text)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "value", "units"]), inner),
)


@given(st.dictionaries(st.sampled_from(["name", "value", "units", "owl_uri"]), anything), anything)
def test_a_strange_description_is_read_or_is_none(entry: dict[str, object], products: object) -> None:
    odd = [{"query_name": "q"}, entry]
    text = json.dumps([[{"instrumet": "a"}, {"prod_dict": products}, odd]])
    for attempt in (text, meta_data(odd, products={"p": "q"})):
        try:
            schema = read_schema(attempt)
        except SchemaError:
            continue
        assert all(isinstance(one, str) for product in schema.products.values() for one in product)
