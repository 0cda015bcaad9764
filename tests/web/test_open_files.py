"""A server may have as many open files as the system allows, and connections are open files."""

from __future__ import annotations

import subprocess
import sys

import pytest

from oda_proxy.web.open_files import WANTED

resource = pytest.importorskip("resource", reason="Windows has no such limit")

PROGRAM = """
import resource, sys
from oda_proxy.web.open_files import allow_open_files

limits = tuple(map(int, sys.argv[1:]))
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
allow_open_files()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "expected"), [(64, 100, 100), (100, 100, 100), (64, WANTED + 1, WANTED), (WANTED + 1,) * 3]
)
def test_the_limit_is_raised_as_far_as_the_system_allows(soft: int, hard: int, expected: int) -> None:
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if allowed != resource.RLIM_INFINITY and hard > allowed:
        pytest.skip(f"this system allows {allowed} open files")
    command = [sys.executable, "-c", PROGRAM, str(soft), str(hard)]

    output = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    assert output.split() == [str(expected), str(hard)]
