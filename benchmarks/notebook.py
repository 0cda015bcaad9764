"""The queries of the notebook TestAPI a second time: through the proxy, and from the client's own cache.

An unmodified client of 1.3.5 sends each query of the fixtures once, and then in turn through the proxy and with
`use_local_cache`, which reads a file that the client wrote. A second proxy over the same recordings compresses for all
clients, to count the bytes that a client on another machine receives.

The client decodes each response again (`ast.literal_eval` of all of it, twice), and reads from its own cache what it
has decoded before: that takes longer than the rest, and no proxy can change it without changing the response. What has
a limit is therefore the time in which the client waits for responses, beside the whole time with its own cache.

Last are two queries for which the client's cache has one name: it sorts the characters of a query.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # for tests.support

from mock_server.settings import fixtures_folder
from tests.support.environments import EnvironmentNotBuiltError, python_of
from tests.support.paths import CLIENT_SCRIPTS
from tests.support.relay import relaying
from tests.support.servers import running

VERSION = "1.3.5"
LIMIT = 1.1
"""Time in which the client waits for the proxy, as a multiple of that with its own cache, that is expected."""
FAR_OFF = 2.0
"""Multiple above which the benchmark fails: the machine may be busy."""
TIMEOUT = 600.0


def call_of(query: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the arguments of `get_product` for the query of a fixture."""
    named = {"instrument": query["instrument"], "product": query["product_type"], "product_type": query["query_type"]}
    return {**named, **query["parameters"], **changes}


def calls() -> dict[str, dict[str, Any]]:
    """Return the arguments of each query of the notebook, by its fixture."""
    files = sorted(fixtures_folder().glob("*/*/*/query.json"))
    return {
        file.parent.relative_to(fixtures_folder()).as_posix(): call_of(json.loads(file.read_text())) for file in files
    }


def collisions() -> list[dict[str, Any]]:
    """Return two calls with the same characters."""
    file = fixtures_folder() / "polar/polar_lc/2016-12-18/query.json"
    return [call_of(json.loads(file.read_text()), time_bin=time_bin) for time_bin in (1.2, 2.1)]


def run(python: Path, url: str, place: Path, rounds: int, queries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run the script of the client."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ODA_", "DISP_"))}
    place.mkdir()
    done = subprocess.run(
        [python, CLIENT_SCRIPTS / "time_hits.py", url, str(rounds), json.dumps(queries)],
        cwd=place,
        env={**env, "HOME": str(place), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def received(python: Path, url: str, place: Path, queries: list[dict[str, Any]]) -> int:
    """Return the bytes that a client receives for all queries once more."""
    totals = []
    for number, rounds in enumerate((1, 1, 2)):
        with relaying(url) as relay:
            run(python, relay.url, place / f"{number}", rounds, queries)
        totals.append(relay.received)
    return totals[-1] - totals[-2]


def main() -> int:
    """Print the table; return 1 if a ratio is far off, or an answer wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    try:
        python = python_of(f"oda_api-{VERSION}")
    except EnvironmentNotBuiltError as error:
        print(f"not measured: {error}")
        return bool(os.environ.get("ODA_PROXY_REQUIRE_REAL"))
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("bytes", "compressed"):
            (place / name).mkdir()
        mock = stack.enter_context(
            running(place / "mock", "mock", "--synthetic", "--time-scale", "0.01", "--port", "0")
        )
        serve = ("serve", "--upstream", mock.url, "--port", "0", "--cache-dir", str(place / "cache"))
        local = stack.enter_context(running(place / "local", *serve))
        remote = stack.enter_context(running(place / "remote", *serve, "--compress", "always"))
        queries = calls()
        found = run(python, local.url, place / "time", rounds, list(queries.values()))
        sizes = [
            received(python, server.url, place / name, list(queries.values()))
            for server, name in ((local, "bytes"), (remote, "compressed"))
        ]
        clashes = run(python, local.url, place / "clashes", 0, collisions())
    columns = (
        *("own cache", "through the proxy", "of it waiting", "JSON", "`literal_eval`", "schema", "arrays"),
        "waiting / own cache",
    )
    print(f"| second time, oda_api {VERSION} | {' | '.join(columns)} |")
    print(f"|{'---|' * (len(columns) + 1)}")
    ratios = []
    for name, result in zip(queries, found, strict=True):
        assert result["digests"]["proxy"] == result["digests"]["local"], name
        local_times, steps = result["times"]["local"], result["steps"]
        ratios.append(statistics.median(one / other for one, other in zip(steps["http"], local_times, strict=True)))
        times = (local_times, result["times"]["proxy"], *steps.values())
        cells = [f"{statistics.median(one) * 1000:.0f} ms" for one in times]
        print(f"| {name} | {' | '.join(cells)} | {ratios[-1]:.2f} |")
    print(f"expected: waiting at most {LIMIT} of the time with the own cache; the highest is {max(ratios):.2f}")
    print(f"received for all queries: {sizes[0]:,} bytes, {sizes[1]:,} compressed")
    (first, second), own = ([one["digests"][way] for one in clashes] for way in ("proxy", "local"))
    print(
        f"two queries with the same characters: through the proxy {'different' if first != second else 'THE SAME'} "
        f"products, from the client's cache {'the same' if own[0] == own[1] else 'different'}"
    )
    return int(first == second or max(ratios) > FAR_OFF)


if __name__ == "__main__":
    sys.exit(main())
