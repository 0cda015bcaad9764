"""Send a query for each line on standard input, and print when the client returned.

    on_demand.py

A line is JSON: {"name": ..., "url": ..., "arguments": {...}}; each is sent at once by a client object of its own, and
its end is a line {"name": ..., "returned": seconds of the monotonic clock, "end": "data" or the error}. The first
line printed is `ready`.
"""

import io
import json
import sys
import threading
import time
import warnings
from contextlib import redirect_stdout

from oda_api.api import DispatcherAPI


def send_query(name, url, arguments):
    """Send one query; print when the client returned."""
    try:
        client = DispatcherAPI(url=url)
    except TypeError:  # 1.0 has no `url`
        client = DispatcherAPI(host=url)
    try:
        client.get_product(**arguments)
    except (Exception, SystemExit) as error:  # clients up to 1.1.0 end the program
        end = f"{type(error).__name__}: {error}"
    else:
        end = "data"
    line = json.dumps({"name": name, "returned": time.monotonic(), "end": end})
    sys.__stdout__.write(f"{line}\n")
    sys.__stdout__.flush()


def main():
    warnings.simplefilter("ignore")
    with redirect_stdout(io.StringIO()):
        sys.__stdout__.write("ready\n")
        sys.__stdout__.flush()
        threads = []
        for line in sys.stdin:
            threads.append(threading.Thread(target=send_query, kwargs=json.loads(line)))
            threads[-1].start()
        for thread in threads:
            thread.join()


main()
