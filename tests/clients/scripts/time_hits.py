"""Time queries that were sent before, with and without the client's own cache; print one line of JSON.

    time_hits.py URL ROUNDS CALLS

CALLS is a JSON list of the arguments of `get_product`. Each is sent once by a client without and one with
`use_local_cache`, and then ROUNDS times by both in turn. Of each call are printed the times in s, the part of them in
which the first waited for responses (`http`), and digests of the products of both.
"""

import hashlib
import io
import json
import sys
import time
import warnings
from contextlib import redirect_stdout

import numpy as np
import requests
from oda_api.api import DispatcherAPI


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
    """Adds up the time in which `requests` waits for responses and reads them."""

    def __init__(self):
        self.total = 0.0
        send = requests.Session.send

        def timed(*arguments, **named):
            began = time.perf_counter()
            try:
                return send(*arguments, **named)
            finally:
                self.total += time.perf_counter() - began

        requests.Session.send = timed


def main():
    stopwatch = Stopwatch()
    warnings.simplefilter("ignore")
    url, rounds, calls = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    clients = {"proxy": DispatcherAPI(url=url), "local": DispatcherAPI(url=url, use_local_cache=True)}
    results = [{"times": {name: [] for name in clients}, "http": [], "digests": {}} for _ in calls]
    with redirect_stdout(io.StringIO()):
        for call, result in zip(calls, results, strict=True):
            for name, client in clients.items():
                result["digests"][name] = digest(client.get_product(**call))
        for _ in range(rounds):
            for call, result in zip(calls, results, strict=True):
                for name, client in clients.items():
                    began, waited = time.perf_counter(), stopwatch.total
                    client.get_product(**call)
                    result["times"][name].append(time.perf_counter() - began)
                    if name == "proxy":
                        result["http"].append(stopwatch.total - waited)
    print(json.dumps(results))


main()
