"""Real clients request the image of the notebook through the proxy: it is computed once, then served from the store."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.servers import Server, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

QUERY = json.dumps(
    {
        "instrument": "isgri",
        "product": "isgri_image",
        "product_type": "Real",
        "T1": "2003-03-15T23:27:40.0",
        "T2": "2003-03-16T00:03:15.0",
        "E1_keV": 20.0,
        "E2_keV": 40.0,
        "osa_version": "OSA10.2",
        "RA": 255.986542,
        "DEC": -37.844167,
        "detection_threshold": 5.0,
        "radius": 15.0,
    }
)


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "mock-log", "mock", "--port", "0", "--time-scale", "0.3") as server:
        yield server


@pytest.fixture
def proxy(mock: Server, tmp_path: Path) -> Iterator[Server]:
    cache = str(tmp_path / "cache")
    with running(tmp_path / "log", "serve", "--upstream", mock.url, "--port", "0", "--cache-dir", cache) as server:
        yield server


def status(server: Server) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server.url}/-/status") as response:  # noqa: S310 - an address on this machine
        content: dict[str, Any] = json.load(response)
    return content


@pytest.mark.parametrize("version", ["1.3.5", "1.0"])
def test_the_image_is_computed_once(run_client: Callable[..., Any], proxy: Server, mock: Server, version: str) -> None:
    first, second = (run_client(version, "get_product.py", proxy.url, QUERY)["answers"][0] for _ in range(2))

    assert len(first["products"]) == 2
    assert second == first
    assert status(mock)["jobs"] == 1
    assert status(proxy)["run_analysis"]["hits"] == 1


def test_a_result_of_one_client_is_a_hit_for_another(
    run_client: Callable[..., Any], proxy: Server, mock: Server
) -> None:
    first = run_client("1.0", "get_product.py", proxy.url, QUERY)["answers"]
    second = run_client("1.3.5", "get_product.py", proxy.url, QUERY)["answers"]

    assert status(mock)["jobs"] == 1
    assert second[0]["products"] == first[0]["products"]
