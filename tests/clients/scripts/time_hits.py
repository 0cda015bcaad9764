"""Time queries that were sent before, with and without the client's own cache; print one line of JSON.

    time_hits.py URL ROUNDS CALLS

CALLS is a JSON list of the arguments of `get_product`. Each is sent once by a client without and one with
`use_local_cache`, and then ROUNDS times by both in turn. Of each call are printed the times in s, the parts of them
that the first took for each step (`steps`), and digests of the products of both. Steps are waiting for responses
(`http`), parsing them as JSON (`json`) and as Python (`literal_eval`), the check against a schema (`schema`), and
decoding arrays (`arrays`).
"""

import ast
import hashlib
import io
import json
import sys
import time
import warnings
from contextlib import redirect_stdout

import numpy as np
import oda_api.api
import requests
from oda_api.api import DispatcherAPI
from oda_api.data_products import NumpyDataUnit


def digest(data):
    """Return the SHA-256 of all arrays and texts of the products."""
    found = hashlib.sha256()
    for product in data._p_list:
        if hasattr(product, "data_unit"):
            for unit in product.data_unit:
                found.update(b"" if unit.data is None else np.ascontiguousarray(np.asarray(unit.data)).tobytes())
        elif hasattr(product, "table"):
            found.update(repr(product.table.pformat(max_lines=-1, max_width=-1)).encode())
        else:
            content = getattr(product, "bin_data", product)
            found.update(content if isinstance(content, bytes) else str(content).encode())
    return found.hexdigest()


class Stopwatch:
    """Adds up the time that the steps of a client take."""

    def __init__(self):
        self.totals = {}

    def time(self, step, owner, name):
        """Count the time of a function for a step."""
        function = getattr(owner, name)
        self.totals[step] = 0.0

        def timed(*arguments, **named):
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.totals[step] += time.perf_counter() - began

        setattr(owner, name, timed)


def main():
    stopwatch = Stopwatch()
    stopwatch.time("http", requests.Session, "send")
    stopwatch.time("json", requests.Response, "json")
    stopwatch.time("literal_eval", ast, "literal_eval")
    stopwatch.time("schema", oda_api.api, "validate_json")
    stopwatch.time("arrays", NumpyDataUnit, "decode")
    warnings.simplefilter("ignore")
    url, rounds, calls = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    clients = {"proxy": DispatcherAPI(url=url), "local": DispatcherAPI(url=url, use_local_cache=True)}
    results = [
        {"times": {name: [] for name in clients}, "steps": {step: [] for step in stopwatch.totals}, "digests": {}}
        for _ in calls
    ]
    with redirect_stdout(io.StringIO()):
        for call, result in zip(calls, results, strict=True):
            for name, client in clients.items():
                result["digests"][name] = digest(client.get_product(**call))
        for _ in range(rounds):
            for call, result in zip(calls, results, strict=True):
                for name, client in clients.items():
                    began, before = time.perf_counter(), dict(stopwatch.totals)
                    client.get_product(**call)
                    result["times"][name].append(time.perf_counter() - began)
                    if name == "proxy":
                        for step, total in stopwatch.totals.items():
                            result["steps"][step].append(total - before[step])
    print(json.dumps(results))


main()
