"""Unmodified clients of all generations survive the limits of clients, and receive their products in the end."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.servers import running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.slow]

IMAGE: dict[str, Any] = {
    "instrument": "isgri",
    "product": "isgri_image",
    "product_type": "Real",
    "osa_version": "OSA10.2",
    "T1": "2003-03-15T23:27:40.0",
    "T2": "2003-03-16T00:03:15.0",
    "E1_keV": 20.0,
    "E2_keV": 40.0,
    "RA": 255.986542,
    "DEC": -37.844167,
    "detection_threshold": 5.0,
    "radius": 15.0,
}


SPECTRUM: dict[str, Any] = {
    **{name: IMAGE[name] for name in ("osa_version", "T1", "RA", "DEC", "detection_threshold", "radius")},
    "instrument": "isgri",
    "product": "isgri_spectrum",
    "product_type": "Real",
    "T2": "2003-03-16T00:03:12.0",
    "time_bin": 50,
}


@pytest.mark.parametrize("version", ["1.0", "1.3.5"])
@pytest.mark.parametrize("limit", [("--client-rate", "0.4"), ("--client-jobs", "1")])
def test_a_client_over_a_limit_receives_its_products_later(
    run_client: Callable[..., Any], tmp_path: Path, version: str, limit: tuple[str, str]
) -> None:
    serve = ["serve", "--mock", "--port", "0", "--time-scale", "0.05", *limit]
    with running(tmp_path / "proxy.log", *serve) as proxy:
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(run_client, version, "get_product.py", proxy.url, json.dumps(IMAGE))
            second = pool.submit(run_client, version, "get_product.py", proxy.url, json.dumps(SPECTRUM))
            answers = [*first.result()["answers"], *second.result()["answers"]]
        limited = (tmp_path / "proxy.log").read_text().count("detail=client-limit")

    assert limited > 0
    assert [answer.get("message", "") for answer in answers] == ["", ""]
    assert [len(answer["names"]) > 0 for answer in answers] == [True, True]
