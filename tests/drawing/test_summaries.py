"""Summaries of products show the begin of tables and texts."""

from __future__ import annotations

from typing import Any

from oda_proxy.drawing.summaries import summaries_of

CATALOGUE = {
    "cat_frame": "fk5",
    "cat_coord_units": "deg",
    "cat_column_list": [[1, 2], ["Crab", "Sco X-1"], [83.633, 244.98]],
    "cat_column_names": ["meta_ID", "src_names", "ra"],
    "cat_column_descr": [["meta_ID", "<i8"], ["src_names", "<U20"], ["ra", "<f8"]],
    "cat_lat_name": "dec",
    "cat_lon_name": "ra",
}


def preview(products: dict[str, Any]) -> Any:
    [summary] = summaries_of(products)
    return summary["preview"]


def test_of_a_catalogue_the_first_rows_are_shown_with_units() -> None:
    assert preview({"catalog": CATALOGUE}) == {
        "columns": ["meta_ID", "src_names", "ra"],
        "units": ["", "", "deg"],
        "rows": [["1", "Crab", "83.633"], ["2", "Sco X-1", "244.98"]],
        "notes": [],
    }


def test_of_a_text_the_first_lines_are_shown() -> None:
    found = preview({"text_product_list": [{"name": "log", "value": "one\ntwo", "meta_data": {}}]})

    assert found == {"lines": ["one", "two"], "notes": []}


def test_a_damaged_product_has_no_preview() -> None:
    assert preview({"catalog": {**CATALOGUE, "cat_column_list": [[1], [2, 3]]}}) is None
