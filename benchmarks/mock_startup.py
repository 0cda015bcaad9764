"""Time from the start of the mock to its first response, compared with `python -c "import aiohttp.web"`.

A test suite may start a mock for every test, so it should cost little more than its web server. Both are timed in turn,
and the ratio is computed pair by pair, because the speed of the machine varies.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import urllib.request

PAIRS = 11
LIMIT = 1.5


def importing() -> float:
    """Return the time in s of a process that imports the web server."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import aiohttp.web"], check=True)
    return time.perf_counter() - began


def answering() -> float:
    """Return the time in s from the start of a mock to its first response."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "oda_proxy.cli", "mock", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("listening on ").strip()
        with urllib.request.urlopen(f"{url}/api/instr-list?instrument=mock") as response:  # noqa: S310 - on this machine
            response.read()
        took = time.perf_counter() - began
        process.terminate()
    return took


def main() -> int:
    """Print the medians; return 1 if the limit is exceeded."""
    importing(), answering()  # once, to fill the file cache
    pairs = [(importing(), answering()) for _ in range(PAIRS)]
    ratio = statistics.median(mock / web for web, mock in pairs)
    web, mock = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"import aiohttp.web {web:.3f} s, first response of the mock {mock:.3f} s, ratio {ratio:.2f} (limit {LIMIT})")
    return ratio > LIMIT


if __name__ == "__main__":
    sys.exit(main())
