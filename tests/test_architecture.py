"""Imports point one way: the contracts stand in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.paths import CHECKOUT


def test_imports_point_one_way() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")

    result = subprocess.run(
        [lint_imports, "--no-cache"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout


def test_a_mock_starts_without_what_it_does_not_need() -> None:
    script = (
        "import sys; import oda_proxy.servers, oda_proxy.cli, mock_server.app;"
        "print(*sorted({'numpy', 'astropy', 'diskcache', 'cachetools', 'platformdirs'} & set(sys.modules)))"
    )

    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert told.stdout == "\n"
