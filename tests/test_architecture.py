"""The packages of the project: which there are, what lies beside them, and in which direction they import."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.paths import CHECKOUT

PACKAGE: Final = CHECKOUT / "oda_proxy"
TOP: Final = {
    "__init__",
    "_version",
    "cli",
    "errors",
    "in_process",
    "proxy",
    "pytest_plugin",
}
"""What a newcomer opens first."""
PACKAGES: Final = {
    "access",
    "capsule",
    "codec",
    "commands",
    "compat",
    "config",
    "drawing",
    "drift",
    "files",
    "fixture",
    "handlers",
    "http",
    "jobs",
    "metrics",
    "pages",
    "query",
    "recordings",
    "replicas",
    "run",
    "servers",
    "store",
    "testing",
    "upstream",
    "warming",
    "web",
    "workers",
}
UNTESTED_BY_NAME: Final = {"files"}
"""Packages of which the tests lie with those who use them."""


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )


def test_only_what_a_newcomer_opens_first_lies_at_the_top() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == TOP
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == PACKAGES


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_package_says_what_it_is_for_and_does_nothing_when_it_is_imported(package: str) -> None:
    module = ast.parse((PACKAGE / package / "__init__.py").read_text())

    assert len(module.body) == 1
    assert "Begin with" in (ast.get_docstring(module) or "")


@pytest.mark.parametrize("package", sorted(PACKAGES - UNTESTED_BY_NAME))
def test_the_tests_of_a_package_lie_in_the_folder_of_its_name(package: str) -> None:
    assert list((CHECKOUT / "tests" / package).glob("test_*.py"))


def test_imports_point_one_way() -> None:
    result = lint_imports(CHECKOUT)

    assert result.returncode == 0, result.stdout


def test_an_import_upwards_is_found(tmp_path: Path) -> None:
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    for name in ("oda_proxy", "mock_server"):
        shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "oda_proxy" / "codec" / "product.py").open("a") as module:
        module.write("from oda_proxy.jobs import job\n")

    result = lint_imports(tmp_path)

    assert result.returncode == 1
    assert "oda_proxy.codec is not allowed to import oda_proxy.jobs" in result.stdout


def test_a_mock_starts_without_what_it_does_not_need() -> None:
    script = (
        "import sys; import oda_proxy.servers.mock, oda_proxy.cli, mock_server.app;"
        "print(*sorted({'numpy', 'astropy', 'diskcache', 'cachetools', 'platformdirs'} & set(sys.modules)))"
    )

    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert told.stdout == "\n"
