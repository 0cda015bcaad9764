"""A synthetic mosaic of ISGRI has the HDUs of today's pipeline, except where the dispatcher of 2019 is imitated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mock_server.fixture_library import FixtureLibrary
from mock_server.matching import NormalisedQuery
from mock_server.settings import MockSettings
from oda_proxy.codec import wire

if TYPE_CHECKING:
    from oda_proxy.codec.product import DataUnit

QUERY = NormalisedQuery(
    "isgri",
    "isgri_image",
    "Real",
    {
        "src_name": "Crab",
        "RA": 83.63,
        "DEC": 22.01,
        "T1": "2004-03-15T23:27:40.000",
        "T2": "2004-03-16T00:03:15.000",
        "E1_keV": 20.0,
        "E2_keV": 40.0,
    },
)


def units(*, as_in_2019: bool) -> tuple[DataUnit, ...]:
    fixture = FixtureLibrary.open(MockSettings().folders, seed=0, as_in_2019=as_in_2019).synthesise(QUERY)
    assert fixture is not None
    (product,) = fixture.wire_products()["numpy_data_product_list"]
    return wire.decode_product(product).units


def cards(unit: DataUnit) -> dict[str, Any]:
    return {card.keyword: card.value for card in unit.header}


def test_today_it_has_six_hdus_in_which_the_fifth_is_the_significance() -> None:
    made = units(as_in_2019=False)
    assert [unit.name for unit in made] == ["Primary", "GROUPING", *["ISGR-MOSA-IMA"] * 4]
    kinds = [cards(unit)["IMATYPE"] for unit in made[2:]]
    assert kinds == ["INTENSITY", "VARIANCE", "SIGNIFICANCE", "EXPOSURE"]
    table = made[1].data
    assert table is not None
    assert [kind.decode() for kind in table["IMATYPE"]] == kinds


def test_significance_is_intensity_in_units_of_its_error_and_errors_grow_with_less_exposure() -> None:
    intensity, variance, significance, exposure = (np.asarray(unit.data, float) for unit in units(as_in_2019=False)[2:])
    seen = significance != 0
    assert intensity[seen] / np.sqrt(variance[seen]) == pytest.approx(significance[seen], rel=1e-4)
    assert variance[seen] * exposure[seen] == pytest.approx((variance * exposure)[seen][0], rel=1e-4)
    assert exposure.max() == pytest.approx(2135.0, rel=0.01)


def test_in_2019_it_has_the_significance_alone() -> None:
    assert [unit.name for unit in units(as_in_2019=True)] == ["Primary", "ISGR-MOSA-IMA"]
