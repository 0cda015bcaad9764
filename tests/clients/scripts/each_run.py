"""Send one query in many runs at once, each to another server; print how each ended as one line of JSON.

    each_run.py RUNS

RUNS is a file with JSON: {name: {"url": ..., "arguments": {...}, "method": "GET" or "POST"}}. Clients that have such
settings wait TIMEOUT s for a response, and PAUSE s before they retry, as often as they do by default.
"""

import hashlib
import io
import json
import sys
import threading
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from oda_api.api import DispatcherAPI

TIMEOUT = 2.0
PAUSE = 0.2


def digest(data):
    """Return the SHA-256 of the arrays of some products."""
    sha256 = hashlib.sha256()
    for product in data._p_list:
        for unit in product.data_unit:
            if unit.data is not None:
                sha256.update(np.ascontiguousarray(np.asarray(unit.data)).tobytes())
    return sha256.hexdigest()


def ended(url, arguments, method):
    """Ask once; tell how it ended."""
    try:
        client = DispatcherAPI(url=url)
    except TypeError:  # 1.0 has no `url`
        client = DispatcherAPI(host=url)
    client.timeout, client.retry_sleep_s, client.preferred_request_method = TIMEOUT, PAUSE, method
    began = time.monotonic()
    try:
        end = {"end": "data", "digest": digest(client.get_product(**arguments))}
    except (Exception, SystemExit) as error:  # clients up to 1.1.0 end the program
        end = {"end": type(error).__name__, "message": str(error)}
    return {**end, "took": time.monotonic() - began}


def main():
    runs = json.loads(Path(sys.argv[1]).read_text())
    ends = {}

    def run(name, query):
        ends[name] = ended(**query)

    warnings.simplefilter("ignore")
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        threads = [threading.Thread(target=run, args=one) for one in runs.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(json.dumps(ends))


main()
