"""Unmodified clients at two upstreams of one server get the data, the jobs and the recordings of theirs."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

import oda_proxy
from tests.support.image_query import mock_status
from tests.support.servers import running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.slow]

VERSIONS = ["1.3.5", "1.0"]
SYNTHETIC = {
    "instrument": "isgri",
    "product": "isgri_image",
    "product_type": "Real",
    "T1": "2003-03-15T23:27:40.0",
    "T2": "2003-03-16T00:03:15.0",
    "E1_keV": 20.0,
    "E2_keV": 40.0,
    "osa_version": "OSA10.2",
    "RA": 83.63,
    "DEC": 22.01,
    "detection_threshold": 5.0,
    "radius": 15.0,
}
"""The two dispatchers have different data for it."""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_clients_of_two_upstreams_get_the_data_of_theirs_at_once_and_later(
    tmp_path: Path, run_client_in: Callable[..., Any], workers: str
) -> None:
    number = count()

    def run(version: str, url: str) -> Any:
        """Run a client with a folder of its own: it caches."""
        folder = tmp_path / f"client-{next(number)}"
        folder.mkdir()
        answers = run_client_in(folder, version, "get_product.py", url, json.dumps(SYNTHETIC))["answers"]
        assert "error" not in answers[0], answers[0]
        return [unit["data"] for unit in answers[0]["products"][0]["units"]]

    mock = {"synthetic": True, "time_scale": 0.05}
    with oda_proxy.mocking(seed=1, **mock) as production, oda_proxy.mocking(seed=2, **mock) as staging:  # type: ignore[arg-type]
        file = tmp_path / "several.toml"
        file.write_text(
            f'port = 0\ncache-dir = "{tmp_path / "cache"}"\nworkers = {workers}\n'
            f'[upstream.production]\nurl = "{production}"\nprefix = "/"\n[upstream.staging]\nurl = "{staging}"\n'
        )
        expected = [run("1.3.5", url) for url in (production, staging)]
        with running(tmp_path / "log", "serve", "--config", str(file)) as server, ThreadPoolExecutor(4) as pool:

            def everybody() -> list[Any]:
                addresses = [f"{server.url}{prefix}" for prefix in ("", "/staging") for _ in VERSIONS]
                return list(pool.map(run, VERSIONS * 2, addresses))

            at_once, later = everybody(), everybody()
        submissions = [mock_status(url)["asked"]["new"] for url in (production, staging)]

    assert expected[0] != expected[1]
    assert at_once == later == [expected[0], expected[0], expected[1], expected[1]]
    assert submissions == [2, 2]  # that without the proxy, and that of all clients through it
