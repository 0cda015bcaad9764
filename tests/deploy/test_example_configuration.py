"""The example configuration has options that exist, and a server starts with it."""

from __future__ import annotations

import ipaddress
import json
import tomllib
import urllib.request
from typing import TYPE_CHECKING

import pytest

from oda_proxy.config.options import SERVE
from oda_proxy.config.sources import resolve_options
from tests.support.paths import CHECKOUT
from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = CHECKOUT / "deploy/oda-proxy.toml"


def test_every_option_exists_and_has_a_valid_value() -> None:
    values = resolve_options(SERVE, {}, {}, EXAMPLE, warn=pytest.fail)

    assert {option.key for option in SERVE} >= set(tomllib.loads(EXAMPLE.read_text()))
    assert values["public-url"] == "https://oda.example.org/oda"
    assert values["trusted-proxy"] == (ipaddress.ip_network("127.0.0.1"), ipaddress.ip_network("::1"))
    assert values["workers"] == 2


@pytest.mark.slow
def test_a_server_starts_with_it(tmp_path: Path) -> None:
    with (
        running(tmp_path / "mock.log", "mock", "--port", "0") as mock,
        running(
            tmp_path / "proxy.log",
            *("serve", "--config", str(EXAMPLE), "--upstream", mock.url, "--port", "0"),
            *("--cache-dir", str(tmp_path / "cache"), "--readers", "anyone"),
        ) as proxy,
        urllib.request.urlopen(f"{proxy.url}/-/status", timeout=PATIENCE) as response,  # noqa: S310 - on this machine
    ):
        assert len(json.load(response)["workers"]) == 2
    log = (tmp_path / "proxy.log").read_text()
    assert "clients use https://oda.example.org/oda" in log
    assert "without encryption" not in log
