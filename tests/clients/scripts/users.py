"""Send one query after the other with some clients, until the line `stop` comes on standard input.

    users.py URL COUNT FIRST QUERIES [one-pass]

Each of COUNT threads has a client object of its own, and begins with another of the first half of the QUERIES (JSON),
from number FIRST on. After the line `later`, every other one goes on with the second half. No client sends a request
again that has failed. A line `product` is printed for each product; at the end, a line of JSON with the outcomes: for
each query, the number of clients by the digest of all arrays, or by their error. With `one-pass`, each thread sends all
queries once.
"""

import ast
import hashlib
import io
import json
import sys
import threading
import warnings
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
from oda_api.api import DispatcherAPI

literal_eval, one_at_a_time = ast.literal_eval, threading.Lock()
PAUSE = 0.5  # between two polls, in s


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


def client_of(url):
    """Return a client object that gives up at the first failure."""
    try:
        client = DispatcherAPI(url=url)
    except TypeError:  # 1.0 has no `url`
        return DispatcherAPI(host=url)
    client.retry_sleep_s = PAUSE
    client.n_max_tries = 1
    return client


def main():
    ast.literal_eval = literal_eval_alone
    url, count, first, queries = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
    one_pass = "one-pass" in sys.argv
    outcomes, lock = [Counter() for _ in queries], threading.Lock()
    later, stop = threading.Event(), threading.Event()
    half = len(queries) // 2

    def use(offset):
        client, sent = client_of(url), 0
        while not stop.is_set() and not (one_pass and sent == len(queries)):
            number = sent if one_pass else (first + offset + sent) % half
            if later.is_set() and offset % 2 == 0:
                number += half
            try:
                outcome = digest(client.get_product(**queries[number]))
            except (Exception, SystemExit) as error:  # clients up to 1.1.0 end the program
                outcome = f"{type(error).__name__}: {error}"
            with lock:
                outcomes[number][outcome] += 1
                print("product", file=sys.__stdout__, flush=True)
            sent += 1

    warnings.simplefilter("ignore")
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        threads = [threading.Thread(target=use, args=(offset,)) for offset in range(count)]
        for thread in threads:
            thread.start()
        for line in [] if one_pass else sys.stdin:
            if line == "later\n":
                later.set()
            else:
                stop.set()
                break
        for thread in threads:
            thread.join()
    print(json.dumps(outcomes))


main()
