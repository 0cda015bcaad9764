"""What is installed from a wheel works by itself, away from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
import zipfile
from typing import TYPE_CHECKING

import pytest

from oda_proxy.fixture.verification import verify
from tests.support.paths import CHECKOUT as ROOT
from tests.support.servers import running

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack a wheel that was built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as cache:
        cache.extractall(folder / "site")
    return folder / "site"


def test_a_wheel_holds_our_packages_and_nothing_beside_them(installed: Path) -> None:
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {"oda_proxy", "mock_server"}
    assert list((installed / "mock_server" / "fixtures").rglob("*.py")) == []


def test_the_fixtures_of_a_wheel_are_whole(installed: Path) -> None:
    assert verify(installed / "mock_server" / "fixtures") == []
    assert verify(installed / "mock_server" / "fixtures" / "2019") == []
    for release in ("1.3.3", "1.3.6"):
        assert verify(installed / "mock_server" / "dummy_instruments" / release) == []


def test_the_templates_of_a_wheel_are_those_of_the_checkout(installed: Path) -> None:
    for folder in ("oda_proxy/pages/templates", "oda_proxy/pages/static", "mock_server/templates"):
        files = {path.name for path in (ROOT / folder).iterdir()}
        assert {path.name for path in (installed / folder).iterdir()} == files


def test_the_mock_of_a_wheel_serves_its_own_fixtures(installed: Path, tmp_path: Path) -> None:
    away = {
        "PYTHONPATH": os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")]),
        "PYTHONSAFEPATH": "1",  # what lies in this folder is not what was installed
    }
    script = "import mock_server; print(mock_server.__file__, mock_server.fixtures_folder())"

    told = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **away}, capture_output=True, text=True, check=True
    )
    with (
        running(tmp_path / "log", "mock", "--port", "0", env=away) as mock,
        urllib.request.urlopen(f"{mock.url}/api/instr-list?instrument=mock") as response,  # noqa: S310 - on this machine
    ):
        instruments = json.load(response)

    package = installed / "mock_server"
    assert told.stdout.split() == [str(package / "__init__.py"), str(package / "fixtures")]
    assert instruments == ["isgri", "jemx", "polar", "spi_acs"]
