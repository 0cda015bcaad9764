"""Time from a request to its cache key, in microseconds, for cached and for new requests.

The queries are those of the notebook, as `oda_api` 1.3.5 sends them, with the mock's description of ISGRI. Imports of
astropy are not timed.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, cast
from urllib.parse import urlencode

from oda_proxy.query.cache_key import keys_of
from oda_proxy.query.query import parse_fields, split_query
from oda_proxy.query.query_memo import QueryMemo
from oda_proxy.query.resolved import QueryResolver
from oda_proxy.query.schema import Schema, read_schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.query.descriptions import Descriptions

ROUNDS = 21
AT_ONCE = 200

QUERY = {
    "T1": "2003-03-15T23:27:40.0",
    "T2": "2003-03-16T00:03:15.0",
    "E1_keV": "20.0",
    "E2_keV": "40.0",
    "RA": "255.986542",
    "DEC": "-37.844167",
    "detection_threshold": "5.0",
    "radius": "15.0",
    "instrument": "isgri",
    "product_type": "isgri_image",
    "query_type": "Real",
    "off_line": "False",
    "query_status": "new",
    "session_id": "SSSSSSSSSSSSSSSS",
    "api": "True",
    "oda_api_version": "1.3.5",
}
CATALOGUE = {
    "cat_frame": "fk5",
    "cat_column_list": [list(range(30)), [f"source {n}" for n in range(30)], [n / 7 for n in range(30)]],
    "cat_column_names": ["meta_ID", "src_names", "significance"],
}
REQUESTS = {
    "numbers and ISO times": QUERY,
    "times in MJD": {**QUERY, "T1": "52713.97754629630", "T2": "52714.00225694444", "T_format": "mjd"},
    "hours and degrees": {**QUERY, "RA": "17h03m56.77s", "DEC": "-37d50m39.0s"},
    "a catalogue of 30 sources": {**QUERY, "selected_catalog": json.dumps(CATALOGUE)},
}


def isgri_schema() -> Schema:
    """Return a mock's description of ISGRI."""
    command = [sys.executable, "-m", "oda_proxy.cli", "mock", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("listening on ").strip()
        with urllib.request.urlopen(f"{url}/api/meta-data?instrument=isgri") as response:  # noqa: S310 - on this machine
            text: bytes = response.read()
        process.terminate()
    return read_schema(text)


def microseconds(read: Callable[[], object]) -> float:
    """Return the time of one call: the median over the rounds."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(AT_ONCE):
            read()
        times.append((time.perf_counter() - began) / AT_ONCE * 1e6)
    return statistics.median(times)


class Known:
    """The descriptions of instruments, of which the current ones are cached."""

    def __init__(self, schemas: tuple[Schema, ...]) -> None:
        self._schemas = schemas

    async def schemas(self, _: str, *, may_request: bool = True) -> tuple[Schema, ...]:  # noqa: ARG002 - as in Descriptions
        """Return the descriptions of any instrument."""
        return self._schemas


async def table(schemas: tuple[Schema, ...]) -> None:
    """Print a line for each kind of query."""
    print(f"{'microseconds a request':30} {'cached':>12} {'new':>12}")
    for name, arguments in REQUESTS.items():
        text, memo, resolver = urlencode(arguments), QueryMemo(), QueryResolver(cast("Descriptions", Known(schemas)))
        expected = keys_of(split_query(parse_fields(text))[0], schemas)
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            for _ in range(AT_ONCE):
                resolved = await resolver.resolve(memo.read(text)[0])
            times.append((time.perf_counter() - began) / AT_ONCE * 1e6)
            assert resolved.keys == expected
        full = microseconds(lambda: keys_of(split_query(parse_fields(text))[0], schemas))  # noqa: B023 - called at once
        print(f"{name:30} {statistics.median(times):12.0f} {full:12.0f}")


def main() -> int:
    """Print the table."""
    asyncio.run(table((isgri_schema(),)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
