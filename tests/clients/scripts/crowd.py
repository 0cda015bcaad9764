"""Ask one question with many clients at the same moment; print what they ended with as one line of JSON.

    crowd.py URL COUNT PAUSE ARGUMENTS

Each of COUNT threads has a client object of its own, which waits PAUSE s before it tries again, where its version does.
Once all are there a line `ready` is printed; they ask when a line comes on standard input.
"""

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


def digest(data):
    """Name every bit of the arrays of some products, with the names of their units."""
    seen = hashlib.sha256()
    for product in data._p_list:
        for unit in product.data_unit:
            seen.update(f"{unit.name}\n".encode())
            if unit.data is not None:
                array = np.ascontiguousarray(np.asarray(unit.data))
                seen.update(f"{array.shape} {array.dtype}\n".encode())
                seen.update(array.tobytes())
    return seen.hexdigest()


def client_of(url, pause):
    """Make a client object."""
    try:
        client = DispatcherAPI(url=url)
    except TypeError:  # 1.0 has no `url`, and does not try again
        return DispatcherAPI(host=url)
    client.retry_sleep_s = pause
    return client


def main():
    url, count, pause, arguments = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), json.loads(sys.argv[4])
    ends, took = Counter(), []
    present = threading.Barrier(count + 1)
    go = threading.Event()

    def ask():
        client = client_of(url, pause)
        present.wait()
        go.wait()
        began = time.monotonic()
        try:
            end = digest(client.get_product(**arguments))
        except (Exception, SystemExit) as error:  # clients up to 1.1.0 end the program
            end = f"{type(error).__name__}: {error}"
        took.append(time.monotonic() - began)
        ends[end] += 1

    warnings.simplefilter("ignore")
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        threads = [threading.Thread(target=ask) for _ in range(count)]
        for thread in threads:
            thread.start()
        present.wait()
        print("ready", file=sys.__stdout__, flush=True)
        sys.stdin.readline()
        go.set()
        for thread in threads:
            thread.join()
    print(json.dumps({"ends": ends, "longest": max(took)}))


main()
