"""Differences between two responses to one query are found and reported with their size."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits as astropy_fits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oda_proxy.codec import fits, wire
from oda_proxy.codec.product import Card, DataProduct, DataUnit
from oda_proxy.drift import comparison
from oda_proxy.drift.comparison import MAX_DIFFERENCES, ProductComparison, Verdict, compare
from oda_proxy.drift.differences import EXACT, Difference, Tolerance, members
from oda_proxy.errors import CodecError
from tests.support.examples import examples

if TYPE_CHECKING:
    from oda_proxy.codec.product import Array

IMAGE = np.arange(12, dtype=">f4").reshape(3, 4)
TABLE = np.array(
    [(1.0, 2.5, "a"), (2.0, np.nan, "b"), (3.0, 7.5, "c")], dtype=[("TIME", ">f8"), ("RATE", ">f4"), ("NAME", "S4")]
)
CATALOG: dict[str, Any] = {
    "cat_frame": "fk5",
    "cat_column_names": ["src_names", "ra", "significance"],
    "cat_column_list": [["Crab", "A"], [83.63, 84.0], [7.0, 5.0]],
}


def unit(data: Array | None, name: str = "MAP", /, **header: Any) -> DataUnit:
    kind: Any = None if data is None else "bintable" if data.dtype.names else "image"
    return DataUnit(name, tuple(Card(keyword, value) for keyword, value in header.items()), data, kind)


def product(*units: DataUnit, name: str = "image", **meta_data: Any) -> DataProduct:
    return DataProduct(name, meta_data, units)


def arrays(*products: DataProduct) -> dict[str, Any]:
    return {"numpy_data_product_list": [wire.encode_product(one) for one in products]}


def differences(was: DataUnit, now: DataUnit, tolerance: Tolerance = EXACT) -> list[Difference]:
    [compared] = compare(arrays(product(was)), arrays(product(now)), tolerance)
    assert (compared.verdict is Verdict.DIFFERS) == bool(compared.differences)
    return list(compared.differences)


def changed(data: Array, index: Any, value: Any, column: str | None = None) -> Array:
    copy = data.copy()
    (copy if column is None else copy[column])[index] = value
    return copy


def test_equal_products_have_no_difference() -> None:
    products = {**arrays(product(unit(None, "Primary"), unit(IMAGE), unit(TABLE, "LC"))), "catalog": CATALOG}

    assert compare(products, products) == [
        ProductComparison("image", Verdict.SAME),
        ProductComparison("catalog", Verdict.SAME),
    ]


def test_the_largest_difference_is_reported_with_its_pixel() -> None:
    now = changed(changed(IMAGE, (2, 1), 9.5), (0, 1), 1.25)

    assert differences(unit(IMAGE), unit(now)) == [
        Difference(
            "MAP",
            "2 of 12 values differ, by up to 0.5 (at pixel (2, 3): was 9.0, is 9.5), relatively by up to 0.25",
            0.5,
            0.25,
        )
    ]


def test_a_column_that_differs_is_named_with_its_row() -> None:
    [found] = differences(unit(TABLE), unit(changed(TABLE, 2, 8.0, "RATE")))

    assert str(found) == (
        "MAP, column RATE: 1 of 3 values differ, by up to 0.5 (at row 3: was 7.5, is 8.0), relatively by up to 0.0667"
    )


def test_a_difference_from_zero_has_no_relative_size() -> None:
    [found] = differences(unit(IMAGE), unit(changed(IMAGE, (0, 0), 1e-3)))

    assert found.absolute == pytest.approx(1e-3)
    assert found.relative is None


@pytest.mark.parametrize(
    ("tolerance", "is_same"),
    [
        (Tolerance(), False),
        (Tolerance(rtol=0.06), True),
        (Tolerance(rtol=0.05), False),
        (Tolerance(atol=0.5), True),
        (Tolerance(atol=0.49), False),
        (Tolerance(rtol=0.03, atol=0.25), True),
    ],
)
def test_numbers_within_the_tolerance_are_equal(tolerance: Tolerance, is_same: bool) -> None:
    assert (differences(unit(IMAGE), unit(changed(IMAGE, (2, 1), 9.5)), tolerance) == []) is is_same


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinities_equal_only_themselves(value: float) -> None:
    special = changed(IMAGE, (1, 1), value)

    assert differences(unit(special), unit(special.copy())) == []
    for other in {np.nan, np.inf, -np.inf, 1e20, 0.0} - {value}:
        if not (np.isnan(other) and np.isnan(value)):
            tolerant = Tolerance(rtol=1.0, atol=1e30)
            [found] = differences(unit(special), unit(changed(IMAGE, (1, 1), other)), tolerant)
            assert found.text.startswith("1 of 12 values differ, first at pixel (2, 2): was ")
            assert found.absolute is None


def test_differences_with_nan_are_counted_apart() -> None:
    now = changed(changed(IMAGE, (2, 1), 9.5), (0, 1), np.nan)

    [found] = differences(unit(IMAGE), unit(now))

    assert found.text.endswith("; of them 1 are NaN or infinite")
    assert found.absolute == 0.5


@pytest.mark.parametrize("data", [IMAGE, TABLE])
def test_the_order_of_bytes_is_no_difference(data: Array) -> None:
    assert differences(unit(data), unit(data.astype(data.dtype.newbyteorder("<")))) == []


def test_another_type_is_a_difference_if_all_values_are_the_same() -> None:
    assert differences(unit(IMAGE), unit(IMAGE.astype(">f8"))) == [
        Difference("MAP", "was of type float32 and is of type float64")
    ]


def test_whole_numbers_are_compared_to_the_last_digit() -> None:
    large = np.array([[2**62, 1]], dtype=">i8")

    [found] = differences(unit(large), unit(changed(large, (0, 0), 2**62 + 1)))

    assert found.text.startswith("1 of 2 values differ")


def test_another_shape_is_reported() -> None:
    assert [str(one) for one in differences(unit(IMAGE), unit(IMAGE[:2]))] == [
        "MAP: was of shape 4 x 3 and is of shape 4 x 2"
    ]
    assert [str(one) for one in differences(unit(TABLE), unit(TABLE[:2]))] == ["MAP: it had 3 rows and has 2"]


def test_columns_in_another_order_are_compared_by_name() -> None:
    def units_of(**units: str) -> dict[str, str]:
        return {f"TUNIT{name[1:]}": unit for name, unit in units.items()}

    turned = np.zeros(3, [("RATE", ">f4"), ("TIME", ">f8"), ("NAME", "S4")])
    for name in turned.dtype.names or ():
        turned[name] = TABLE[name]

    found = differences(unit(TABLE, **units_of(n1="d", n2="cps")), unit(turned, **units_of(n1="cps", n2="d")))

    assert [str(one) for one in found] == ["MAP: the columns are in another order: RATE, TIME, NAME"]


def test_new_and_missing_columns_are_named() -> None:
    other = TABLE.astype([("TIME", ">f8"), ("FLUX", ">f4"), ("NAME", "S4")])

    assert [str(one) for one in differences(unit(TABLE), unit(other))] == [
        "MAP, column RATE: is gone",
        "MAP, column FLUX: is new",
    ]


def test_texts_in_a_column_are_compared() -> None:
    [found] = differences(unit(TABLE), unit(changed(TABLE, 1, b"\xe9", "NAME")))

    assert str(found) == "MAP, column NAME: 1 of 3 values differ, first at row 2: was b, is \xe9"


def test_the_element_of_an_array_column_is_named() -> None:
    matrix = np.zeros(2, [("M", ">f4", (3,))])

    [found] = differences(unit(matrix), unit(changed(matrix, (1, 2), 4.0, "M")))

    assert "at row 2, element 3: was 0.0, is 4.0" in found.text


def test_a_table_instead_of_an_image_and_missing_data_are_reported() -> None:
    assert [str(one) for one in differences(unit(IMAGE), unit(TABLE))] == ["MAP: it was an image and is a table"]
    assert [str(one) for one in differences(unit(IMAGE), unit(None))] == ["MAP: its data are missing"]
    assert [str(one) for one in differences(unit(None), unit(IMAGE))] == ["MAP: it has data, and had none"]


def test_cards_are_compared_except_volatile_ones() -> None:
    was = unit(
        IMAGE, DATE="2026-01-01", CHECKSUM="a", DATASUM="1", session_id="S", CREATOR="ii 5.4", EXPOSURE=10.0, A=1
    )
    now = unit(
        IMAGE, DATE="2026-02-02", CHECKSUM="b", DATASUM="2", session_id="T", CREATOR="ii 6.0", EXPOSURE=10.5, B=2
    )

    assert differences(was, now) == [
        Difference("MAP, CREATOR", "was ii 5.4, is ii 6.0"),
        Difference("MAP, EXPOSURE", "was 10.0, is 10.5", 0.5, 0.05),
        Difference("MAP, A", "this card is gone; it was 1"),
        Difference("MAP, B", "this card is new: 2"),
    ]
    assert differences(was, now, Tolerance(rtol=0.1, ignored=frozenset({"crea*", "A", "b"}))) == []


def test_the_unit_of_a_column_is_reported_with_its_name() -> None:
    [found] = differences(unit(TABLE, TUNIT2="cps"), unit(TABLE, TUNIT2="count/s"))

    assert str(found) == "MAP, TUNIT of RATE: was cps, is count/s"


def test_meta_data_are_compared() -> None:
    was, now = (arrays(product(unit(IMAGE), time_bin=time_bin)) for time_bin in (0.5, 0.75))

    [compared] = compare(was, now)

    assert compared.differences == (Difference("meta_data time_bin", "was 0.5, is 0.75", 0.25, 0.5),)


def test_products_are_paired_by_name_and_source_in_any_order() -> None:
    crab, other = (product(unit(IMAGE), name="isgri_lc", src_name=source) for source in ("Crab", "A"))
    brighter = product(unit(IMAGE + 1), name="isgri_lc", src_name="A")

    compared = {one.name: one.verdict for one in compare(arrays(crab, other), arrays(brighter, crab))}

    assert compared == {"isgri_lc Crab": Verdict.SAME, "isgri_lc A": Verdict.DIFFERS}


def test_products_of_one_name_are_paired_in_their_order() -> None:
    one, two = product(unit(IMAGE)), product(unit(IMAGE + 1))

    assert [(c.name, c.verdict) for c in compare(arrays(one, two), arrays(one, two, one))] == [
        ("image", Verdict.SAME),
        ("image (2)", Verdict.SAME),
        ("image (3)", Verdict.NEW),
    ]


def test_a_name_that_looks_numbered_hides_nothing() -> None:
    was = arrays(product(unit(IMAGE)), product(unit(IMAGE)), product(unit(IMAGE), name="image (2)"))
    now = arrays(product(unit(IMAGE)), product(unit(IMAGE + 1)), product(unit(IMAGE), name="image (2)"))

    assert [one.verdict for one in compare(was, now)] == [Verdict.SAME, Verdict.DIFFERS, Verdict.SAME]


def test_new_and_missing_products_and_data_units_are_named() -> None:
    was = {**arrays(product(unit(IMAGE, "A"), unit(IMAGE, "B"))), "catalog": CATALOG}
    now = {**arrays(product(unit(IMAGE, "A"), unit(IMAGE, "C"))), "text_product_list": [{"name": "log", "value": "x"}]}

    assert compare(was, now) == [
        ProductComparison(
            "image",
            Verdict.DIFFERS,
            (Difference("B", "this data unit is gone"), Difference("C", "this data unit is new")),
        ),
        ProductComparison("catalog", Verdict.GONE),
        ProductComparison("text_product log", Verdict.NEW),
    ]


def test_differences_beyond_the_limit_are_counted() -> None:
    was, now = (unit(None, "MAP", **{f"CARD{n}": n + add for n in range(30)}) for add in (0, 1))

    found = differences(was, now)

    assert len(found) == MAX_DIFFERENCES + 1
    assert found[-1].text.endswith("and 10 more differences")


def test_catalogues_are_compared_column_by_column() -> None:
    def catalog(**changes: Any) -> dict[str, Any]:
        return {"catalog": {**CATALOG, **changes}}

    names, columns = CATALOG["cat_column_names"], CATALOG["cat_column_list"]
    turned = catalog(cat_column_names=names[::-1], cat_column_list=columns[::-1])
    moved = catalog(cat_column_list=[["Crab", "B"], [83.63, 84.25], [7.0, 5.0]])
    shorter = catalog(cat_frame="icrs", cat_column_list=[column[:1] for column in columns])

    assert compare(catalog(), turned) == [ProductComparison("catalog", Verdict.SAME)]
    [compared] = compare(catalog(), moved)
    assert [str(one) for one in compared.differences] == [
        "column src_names, row 2: was A, is B",
        "column ra: 1 of 2 values differ, by up to 0.25 (at row 2: was 84.0, is 84.25), relatively by up to 0.00298",
    ]
    [compared] = compare(catalog(), shorter)
    assert str(compared.differences[0]) == "cat_frame: was fk5, is icrs"
    assert str(compared.differences[1]) == "column src_names: had 2 members and has 1"


def test_tables_of_text_are_compared_number_by_number() -> None:
    def table(text: str) -> dict[str, Any]:
        return {"astropy_table_product_ascii_list": [{"name": "sky", "ascii": text, "meta_data": "{}", "binary": None}]}

    was = table("# ECSV\nra dec name\n1.0 2.0 Crab\n3.0 4.0 A\n")

    assert compare(was, was) == [ProductComparison("astropy_table_product_ascii sky", Verdict.SAME)]
    [compared] = compare(was, table("# ECSV\nra dec name\n1.0 2.5 Crab\n3.0 4.0 A\n"))
    assert [str(one) for one in compared.differences] == [
        "1 of 1 values differ, by up to 0.5 (at line 3: was 2.0, is 2.5), relatively by up to 0.25"
    ]
    [compared] = compare(was, table("# ECSV\nra dec name\n1.0 2.0 Crab\n3.00 4e0 A\n"))
    assert compared.verdict is Verdict.SAME
    [compared] = compare(was, table("# ECSV\nra dec name\n1.0 2.0 Crab\n3.0 4.0 B\n5.0 6.0 C\n"))
    assert [str(one) for one in compared.differences] == ["line 4: was 3.0 4.0 A, is 3.0 4.0 B"]
    [compared] = compare(was, table("# ECSV\nra dec name\n1.0 2.0 Crab\n"))
    assert [str(one) for one in compared.differences] == ["it had 4 lines and has 3"]


def test_texts_pictures_and_files_are_compared() -> None:
    def others(text: str, content: bytes) -> dict[str, Any]:
        return {
            "text_product_list": [wire.encode_text(wire.Text(text, "log"))],
            "binary_image_product_list": [wire.encode_picture(wire.Picture(content, "png", "plot"))],
            "binary_data_product_list": [wire.encode_binary(content, name="lc.root", form="object")],
        }

    compared = compare(others("done", b"one"), others("begun", b"three"))

    assert [(one.name, *map(str, one.differences)) for one in compared] == [
        ("text_product log", "line 1: was done, is begun"),
        (
            "binary_image_product plot",
            "had 3 bytes with SHA-256 7692c3ad3540..., has 5 with 8b5b9db0c13d...",
        ),
        (
            "binary_data_product lc.root",
            "had 3 bytes with SHA-256 7692c3ad3540..., has 5 with 8b5b9db0c13d...",
        ),
    ]


def test_a_file_with_a_name_and_the_bare_text_of_it_are_paired_by_their_order() -> None:
    named = wire.encode_binary(b"one", name="", form="object")

    assert compare({"binary_data_product_list": ["b25l"]}, {"binary_data_product_list": [named]}) == [
        ProductComparison("binary_data_product", Verdict.SAME)
    ]


def test_products_that_cannot_be_decoded_are_compared_as_json() -> None:
    empty: dict[str, Any] = {"catalog": {}}

    assert compare(empty, empty) == [ProductComparison("catalog", Verdict.SAME)]
    [compared] = compare({"catalog": {"cat_frame": "fk5"}}, empty)
    assert compared.differences == (Difference("cat_frame", "is gone; it was fk5"),)


def test_an_array_that_cannot_be_decoded_is_an_error() -> None:
    with pytest.raises(CodecError):
        compare({"numpy_data_product_list": [1]}, {})


def test_products_of_unknown_kind_are_compared_as_json() -> None:
    was = {"gw_strain_product_list": [{"value": [1.0, None], "unit": ""}], "huge": 10**400}
    now = {"gw_strain_product_list": [{"value": [1.5, None], "unit": None}], "huge": 10**401}

    compared = {one.name: [str(difference) for difference in one.differences] for one in compare(was, now)}

    assert compared["gw_strain_product"] == ["value, row 1: was 1.0, is 1.5"]
    assert len(compared["huge"]) == 1


def test_bookkeeping_is_compared_only_if_both_responses_have_it() -> None:
    was, now = {"input_prod_list": ["a", "b"]}, {"input_prod_list": ["a", "c"], "prod_process_message": ""}

    [compared] = compare(was, now)

    assert compared == ProductComparison("input_prod", Verdict.DIFFERS, (Difference("row 2", "was b, is c"),))
    assert compare({}, now) == []


def test_a_difference_that_only_astropy_finds_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_units", lambda was, now, tolerance: iter(()))

    [compared] = compare(arrays(product(unit(IMAGE))), arrays(product(unit(IMAGE + 1))))

    assert compared.verdict is Verdict.DIFFERS
    assert compared.differences[0].text.startswith("astropy's FITSDiff reports a difference: ")


_NUMBERS = st.one_of(
    st.integers(-3, 3).map(float), st.floats(-10, 10, width=32, allow_subnormal=False), st.just(float("nan"))
)


@settings(max_examples=examples(60), deadline=None)
@given(
    hnp.arrays(">f4", (2, 3), elements=_NUMBERS),
    hnp.arrays(">f4", (2, 3), elements=_NUMBERS),
    st.sampled_from([0.0, 0.1, 2.0]),
    st.sampled_from([0.0, 0.1]),
)
def test_finite_numbers_and_nan_are_compared_like_astropy(was: Array, now: Array, atol: float, rtol: float) -> None:
    """The reference of astropy is the second array, ours the recorded one."""
    ours = not differences(unit(was), unit(now), Tolerance(rtol=rtol, atol=atol))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = [astropy_fits.HDUList.fromstring(fits.write([unit(data)])) for data in (now, was)]
        theirs = astropy_fits.FITSDiff(*files, rtol=rtol, atol=atol).identical

    if ours != theirs:  # at the edge of the tolerance, astropy computes in the precision of the image
        edge = atol + rtol * np.abs(was.astype(float))
        assert np.isclose(np.abs(now.astype(float) - was), edge, rtol=1e-5).any()


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (20, 20.0),
        ("20", "20.0"),
        ("20", 20.0),
        (20, "2e1"),
        ("-0.5", "-.50"),
        ("2003-03-15T23:27:40", "2003-03-15T23:27:40.000"),
        ("2003-03-15T23:27:40.0", "2003-03-15 23:27:40"),
        ("2003-03-16", "2003-03-16T00:00:00"),
        ("2003-03-16T01:00:00+01:00", "2003-03-16T00:00:00Z"),
    ],
)
def test_equal_numbers_and_instants_are_no_difference(was: Any, now: Any) -> None:
    assert list(members("", {"a": [was, "x"]}, {"a": [now, "x"]}, EXACT)) == []
    assert differences(unit(IMAGE, TSTART=was), unit(IMAGE, TSTART=now)) == []


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("006500220010", "6500220010"),
        ("20", "20.1"),
        ("OSA10.2", "OSA10.20"),
        ("2003-03-15T23:27:40", "2003-03-15T23:27:40.001"),
        ("2003-02-31", "2003-02-31T00:00:00"),
        ("nan", "inf"),
        ("", "0"),
        (".", "0"),
    ],
)
def test_other_texts_are_a_difference(was: Any, now: Any) -> None:
    [found] = members("", {"a": was}, {"a": now}, EXACT)

    assert (found.was, found.now) == (was, now)


def test_texts_in_tables_are_equal_as_numbers_and_instants() -> None:
    def table(*texts: str) -> DataUnit:
        return unit(np.array([(one.encode(),) for one in texts], dtype=[("NAME", "S24")]))

    was = table("2003-03-15T23:27:40", "20", "Crab")

    assert differences(was, table("2003-03-15T23:27:40.000", "20.0", "Crab")) == []
    [found] = differences(was, table("2003-03-15T23:27:41", "20", "Crab"))
    assert (found.count, found.size) == (1, 3)


def test_a_difference_of_an_array_has_the_values() -> None:
    [found] = differences(unit(IMAGE), unit(changed(changed(IMAGE, (2, 1), 9.5), (0, 1), 1.25)))

    assert (found.was, found.now, found.count, found.size, found.of_array) == (9.0, 9.5, 2, 12, True)


@pytest.mark.parametrize(
    ("was", "now", "is_same"),
    [
        (unit(IMAGE, A=1), unit(IMAGE, A=2), True),
        (unit(IMAGE), unit(IMAGE + 1), False),
        (unit(IMAGE), unit(IMAGE[:2]), False),
        (unit(IMAGE), unit(None), False),
        (unit(IMAGE, "A"), unit(IMAGE, "B"), False),
        (unit(TABLE), unit(changed(TABLE, 1, b"z", "NAME")), False),
        (unit(TABLE, TUNIT2="cps"), unit(TABLE, TUNIT2="count/s"), True),
    ],
)
def test_a_product_says_whether_its_arrays_are_the_same(was: DataUnit, now: DataUnit, is_same: bool) -> None:
    [compared] = compare(arrays(product(was)), arrays(product(now)))

    assert compared.has_same_arrays == is_same


def test_a_new_product_has_other_arrays_and_a_new_text_has_none() -> None:
    now = {**arrays(product(unit(IMAGE))), "text_product_list": [{"name": "log", "value": "x"}]}

    assert [one.has_same_arrays for one in compare({}, now)] == [False, True]


def test_a_product_without_a_name_is_named_by_its_data_unit() -> None:
    nameless = arrays(product(unit(None, "Primary"), unit(IMAGE, "ISGR-MOSA-IMA"), name="", src_name="Crab"))

    assert [one.name for one in compare(nameless, nameless)] == ["ISGR-MOSA-IMA Crab"]


def test_maps_of_a_mosaic_with_the_same_name_are_named_and_paired_by_what_they_show() -> None:
    intensity, significance = (unit(IMAGE, "MOSA", IMATYPE=kind) for kind in ("INTENSITY", "SIGNIFICANCE"))
    other = unit(changed(IMAGE, (2, 1), 9.5), "MOSA", IMATYPE="SIGNIFICANCE")

    [compared] = compare(arrays(product(significance)), arrays(product(intensity, other)))

    assert [(one.where, one.of_array) for one in compared.differences] == [
        ("MOSA SIGNIFICANCE", True),
        ("MOSA INTENSITY", True),
    ]
