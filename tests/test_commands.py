"""The commands that keep house: what they say, and with which status they end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from oda_proxy.cli import main

FIXTURES = Path(__file__).parent.parent / "fixtures"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder without a configuration, and keep nothing outside of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))


@pytest.fixture
def fixtures(tmp_path: Path) -> Path:
    """Copy the smallest fixture with a manifest of its own."""
    from oda_proxy.fixture import write_manifest

    path = "spi_acs/spi_acs_lc/2003-03-15"
    shutil.copytree(FIXTURES / path, tmp_path / "fixtures" / path)
    write_manifest(tmp_path / "fixtures", {path: {"kind": "synthetic", "source": "a test", "modelled": []}})
    return tmp_path / "fixtures"


def test_a_sound_folder_of_fixtures_is_verified(fixtures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(fixtures)]) == 0
    assert capsys.readouterr().out == f"{fixtures}: all fixtures are sound\n"

    assert main(["verify", str(fixtures), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"folder": str(fixtures), "sound": True, "faults": []}


def test_a_changed_fixture_is_named_in_one_line(fixtures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = next(fixtures.rglob("*.fits"))
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")

    assert main(["verify", str(fixtures)]) == 1
    said = capsys.readouterr().out

    assert str(changed) in said
    assert main(["verify", str(fixtures), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["faults"] == said.splitlines()


def test_fixtures_are_not_mended(fixtures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(fixtures), "--fix"]) == 2
    assert "yours to change" in capsys.readouterr().err


def test_a_folder_without_fixtures_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 1
    assert "manifest.json" in capsys.readouterr().out
