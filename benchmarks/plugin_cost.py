"""Start-up cost of the pytest plugin for a run that does not use it.

The same run is timed with and without the plugin, in turn; the result is the median of the differences.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PAIRS = 21
LIMIT = 0.030
TESTS = "import pytest\n\n@pytest.mark.parametrize('n', range(50))\ndef test_nothing(n):\n    pass\n"
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}


def run(folder: str, *arguments: str) -> float:
    """Return the time in s of a pytest run without queries."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, env={**os.environ, **ALONE}, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> int:
    """Print the medians; return 1 if the limit is exceeded."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_nothing.py").write_text(TESTS)
        loaded, left_out = ("-p", "oda_proxy"), ("-p", "no:oda_proxy")
        run(folder, *loaded), run(folder, *left_out)  # once, to fill the file cache
        pairs = [(run(folder, *loaded), run(folder, *left_out)) for _ in range(PAIRS)]
    cost = statistics.median(with_it - without for with_it, without in pairs)
    with_it, without = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"pytest with the plugin {with_it:.3f} s, without {without:.3f} s, "
        f"difference {cost * 1000:.1f} ms (limit {LIMIT * 1000:.0f} ms)"
    )
    return cost > LIMIT


if __name__ == "__main__":
    sys.exit(main())
