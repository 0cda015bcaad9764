"""Two answers are equal if only what is volatile differs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from oda_proxy.codec import wire
from oda_proxy.codec.product import Card, DataProduct, DataUnit
from oda_proxy.drift.equality import is_same_answer
from tests.support.recordings import recording

if TYPE_CHECKING:
    from oda_proxy.recordings.recording import Recording

TABLE = b'"text_product_list":[{"name":"t","value":"flux %d","meta_data":{}}]'


@pytest.mark.parametrize(
    ("text", "changes", "is_same"),
    [
        (TABLE % 1, {}, True),
        (b" " + TABLE % 1, {"stored_at": 5.0, "cost": 9.0, "job_id": "x", "exit_status": {"status": 0}}, True),
        (TABLE % 2, {}, False),
        (TABLE % 1, {"parameters": {"analysis_parameters": {"RA": 84.0, "instrument": "isgri"}}}, False),
        (TABLE % 1 + b',"new_list":[1]', {}, False),
        (b'"text_product_list":[{', {}, False),
        (b'"numpy_data_product_list":[5]', {}, False),
    ],
)
def test_answers_are_compared_by_their_products_and_parameters(
    text: bytes, changes: dict[str, Any], is_same: bool
) -> None:
    stored = recording(text=TABLE % 1)

    assert is_same_answer(stored, recording(text=text, **changes)) == is_same


def test_the_date_of_a_file_is_volatile() -> None:
    def dated(date: str, flux: float) -> Recording:
        unit = DataUnit("LC", (Card("DATE", date), Card("OBJECT", "Crab")), np.array([flux]), "image")
        product = wire.encode_product(DataProduct("lc", {}, (unit,)))
        return recording(text=json.dumps({"numpy_data_product_list": [product]})[1:-1].encode())

    stored = dated("2026-01-10", 1.0)
    assert is_same_answer(stored, dated("2026-06-10", 1.0))
    assert not is_same_answer(stored, dated("2026-06-10", 1.5))
