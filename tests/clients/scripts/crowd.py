"""Send one query with many clients at the same moment; print how they ended as one line of JSON.

    crowd.py URL COUNT PAUSE ARGUMENTS

Each of COUNT threads has a client object of its own. Clients that retry wait PAUSE s before they do.
When all are ready, a line `ready` is printed; they send the query when a line comes on standard input.
"""

import ast
import hashlib
import io
import json
import sys
import threading
import time
import warnings
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
from oda_api.api import DispatcherAPI

literal_eval, one_at_a_time = ast.literal_eval, threading.Lock()


def literal_eval_alone(text):
    """Evaluate a literal while no other thread does: CPython 3.11 confuses the depths of two (gh-106905)."""
    with one_at_a_time:
        return literal_eval(text)


def digest(data):
    """Return the SHA-256 of all arrays of some products, with the names of their units."""
    sha256 = hashlib.sha256()
    for product in data._p_list:
        for unit in product.data_unit:
            sha256.update(f"{unit.name}\n".encode())
            if unit.data is not None:
                array = np.ascontiguousarray(np.asarray(unit.data))
                sha256.update(f"{array.shape} {array.dtype}\n".encode())
                sha256.update(array.tobytes())
    return sha256.hexdigest()


def client_of(url, pause):
    """Return a client object."""
    try:
        client = DispatcherAPI(url=url)
    except TypeError:  # 1.0 has no `url`, and does not retry
        return DispatcherAPI(host=url)
    client.retry_sleep_s = pause
    return client


def main():
    ast.literal_eval = literal_eval_alone
    url, count, pause, arguments = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), json.loads(sys.argv[4])
    outcomes, waits = Counter(), []
    ready = threading.Barrier(count + 1)
    start = threading.Event()

    def send_query():
        client = client_of(url, pause)
        ready.wait()
        start.wait()
        began = time.monotonic()
        try:
            outcome = digest(client.get_product(**arguments))
        except (Exception, SystemExit) as error:  # clients up to 1.1.0 end the program
            outcome = f"{type(error).__name__}: {error}"
        waits.append(time.monotonic() - began)
        outcomes[outcome] += 1

    warnings.simplefilter("ignore")
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        threads = [threading.Thread(target=send_query) for _ in range(count)]
        for thread in threads:
            thread.start()
        ready.wait()
        print("ready", file=sys.__stdout__, flush=True)
        sys.stdin.readline()
        start.set()
        for thread in threads:
            thread.join()
    print(json.dumps({"outcomes": outcomes, "longest_wait": max(waits)}))


main()
