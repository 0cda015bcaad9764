"""Summaries of products: what a page says of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.drawing import product_list
from oda_proxy.drawing.summaries import summaries_of
from tests.support import drawn
from tests.support.drawn import fixture_products

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (drawn.MOSAIC, [("image", True, True), ("catalogue", True, True)]),
        (drawn.JEMX_SPECTRUM, [("spectrum", True, True), ("response", True, True), ("response", True, True)]),
        (drawn.POLAR, [("curve", True, True), ("file", False, False)]),
        (drawn.ACS, [("curve", True, True)]),
    ],
)
def test_each_product_has_its_kind_and_forms(path: str, expected: list[tuple[str, bool, bool]]) -> None:
    found = summaries_of(fixture_products(path))

    assert [(one["kind"], one["has_picture"], one["has_fits"]) for one in found] == expected
    assert [one["number"] for one in found] == list(range(len(expected)))


def test_a_damaged_product_says_why_and_does_not_hide_the_others() -> None:
    damaged: dict[str, Any] = {**fixture_products(drawn.ACS), "text_product_list": [7, "fine"]}

    kinds = [(one["kind"], one["error"]) for one in summaries_of(damaged)]

    assert kinds == [("curve", ""), ("damaged", "a text is not an object"), ("text", "")]


def test_products_are_listed_once_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def count(products: Mapping[str, Any]) -> list[product_list.ListedProduct]:
        calls.append(len(products))
        return listed(products)

    listed = product_list.list_products
    for module in ("summaries", "choice"):
        monkeypatch.setattr(f"oda_proxy.drawing.{module}.list_products", count)

    assert len(summaries_of({"text_product_list": ["t"] * 100})) == 100
    assert calls == [1]
