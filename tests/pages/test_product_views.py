"""The products of a recording on its page."""

from __future__ import annotations

from typing import Any

from oda_proxy.pages.product_views import Link, views_of
from tests.pages.test_overview import plain


def summary(**changes: Any) -> dict[str, Any]:
    return {
        "number": 0,
        "kind": "image",
        "name": "mosaic_image",
        "source": "",
        "file": "000-mosaic_image.fits",
        "has_picture": True,
        "has_fits": True,
        "error": "",
        "units": [],
        **changes,
    }


def test_a_product_has_a_picture_and_files() -> None:
    [view] = views_of([summary(number=3)])

    assert (view.number, view.name, view.kind, view.has_picture) == (3, "mosaic_image", "image", True)
    assert view.downloads == [Link("products/3.fits", "FITS"), Link("products/3.png", "PNG")]
    assert view.alt.startswith("image of mosaic_image")


def test_a_server_without_matplotlib_says_so_in_place_of_a_picture() -> None:
    missing = {"has_picture": False, "no_picture": "pictures need matplotlib"}
    image, text = views_of([summary(**missing), summary(preview={"lines": ["a"], "notes": []}, **missing)])

    assert (image.has_picture, image.no_picture) == (False, "pictures need matplotlib")
    assert image.downloads == [Link("products/0.fits", "FITS")]
    assert text.no_picture == "", "it is shown as text"


def test_a_source_is_named_once() -> None:
    views = views_of([summary(source="Crab"), summary(name="isgri_lc Crab", source="Crab"), summary(name="")])

    assert [view.name for view in views] == ["mosaic_image Crab", "isgri_lc Crab", "product 0"]


def test_responses_of_many_sources_are_folded() -> None:
    few, many = (views_of([summary(kind="spectrum"), summary(kind="response")] * count) for count in (3, 4))

    assert [view.is_folded for view in few] == [False] * 6
    assert [view.is_folded for view in many] == [False, True] * 4


def test_a_damaged_product_says_why_and_has_no_files() -> None:
    damaged = summary(kind="damaged", error="a pickle would run os.system", has_picture=False, has_fits=False)
    [view] = views_of([damaged])

    assert (view.kind, view.error, view.downloads) == ("cannot be read", "a pickle would run os.system", [])


def test_units_have_their_shape_or_their_columns_with_units() -> None:
    def unit(**changes: Any) -> dict[str, Any]:
        return {"name": "X", "shape": [], "columns": [], "units": [], "cards": 5, **changes}

    many = [f"C{number}" for number in range(30)]
    [view] = views_of(
        [
            summary(
                units=[
                    unit(name=""),
                    unit(shape=[455, 400]),
                    unit(shape=[12], columns=["TIME", "RATE"], units=["d", "count/s"]),
                    unit(shape=[1], columns=many, units=[""] * 30, cards=1),
                    unit(name=""),
                    unit(shape=[4, 5], kind="significance"),
                ]
            )
        ]
    )

    assert [(one.number, one.name, plain(one.content), plain(one.cards)) for one in view.units[:3]] == [
        (0, "primary", "header only", "5 cards"),
        (1, "X", "400 \N{MULTIPLICATION SIGN} 455", "5 cards"),
        (2, "X", "12 rows: TIME (d), RATE (count/s)", "5 cards"),
    ]
    assert plain(view.units[3].content).endswith("C23 and 6 more")
    assert view.units[4].name == "unit 4"
    assert plain(view.units[5].content) == "significance, 5 \N{MULTIPLICATION SIGN} 4"


def test_a_table_and_a_text_are_shown_as_such_and_not_as_pictures() -> None:
    table = {"columns": ["src_names", "ra"], "units": ["", "deg"], "rows": [["Crab", "83.6"]], "notes": ["of 5 rows"]}
    [one, other] = views_of(
        [summary(kind="catalogue", preview=table), summary(kind="text", preview={"lines": ["a", "b"], "notes": []})]
    )

    assert one.preview is not None
    assert (one.preview.headings, one.preview.rows, one.preview.note) == (
        ["src_names", "ra (deg)"],
        [["Crab", "83.6"]],
        "of 5 rows",
    )
    assert other.preview is not None
    assert other.preview.text == "a\nb"
    assert (one.has_picture, other.has_picture) == (False, False)
    assert Link("products/0.png", "PNG") in one.downloads
