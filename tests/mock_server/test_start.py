"""The mock starts fast: array libraries are imported only when they are needed."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, sys
from aiohttp.test_utils import TestClient, TestServer
from mock_server import MockSettings
from mock_server.app import make_app

async def main():
    async with TestClient(TestServer(make_app(MockSettings()))) as client:
        for path in ("/api/instr-list", "/api/meta-data?instrument=isgri", "/run_analysis?instrument=isgri"):
            await (await client.get(path)).read()

asyncio.run(main())
print(*sorted({"numpy", "astropy", "scipy", "jwt", "oda_api", "diskcache"} & set(sys.modules)))
"""


def test_responses_without_arrays_do_not_import_array_libraries() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""
