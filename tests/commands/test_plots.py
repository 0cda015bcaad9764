"""Plots of data products."""

from __future__ import annotations

import numpy as np
import pytest

from oda_proxy.codec.product import Card, DataProduct, DataUnit
from oda_proxy.commands.plots import Curve, choose_plot


def curve(columns: dict[str, list[float]], header: tuple[Card, ...] = ()) -> Curve:
    data = np.array(list(zip(*columns.values(), strict=True)), [(name, ">f8") for name in columns])
    chosen = choose_plot([DataProduct("", {}, (DataUnit("", header, data, "bintable"),))])
    assert isinstance(chosen, Curve)
    return chosen


@pytest.mark.parametrize("column", ["ERROR", "STAT_ERR", "rate_err"])
def test_a_rate_has_the_errors_of_each_instrument(column: str) -> None:
    plotted = curve({"TIME": [1.0, 2.0], "RATE": [5.0, 6.0], column: [0.5, float("nan")]})

    assert plotted.error is not None
    assert plotted.error.tolist() == [0.5, 0.0]


def test_the_axes_have_the_units_of_the_columns() -> None:
    header = (Card("TTYPE1", "TIME"), Card("TUNIT1", "d"), Card("TTYPE2", "rate"), Card("TUNIT2", None))

    assert curve({"TIME": [1.0], "rate": [2.0]}, header).labels == ("TIME (d)", "RATE")
