"""Ask whenever a line comes on standard input, and print when the client returned.

    on_demand.py

A line is JSON: {"name": ..., "url": ..., "arguments": {...}}; each is asked at once by a client object of its own, and
answered by a line {"name": ..., "returned": seconds of the monotonic clock, "end": "data" or the error}. The first
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


def ask(name, url, arguments):
    """Ask once; say when it is over."""
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
    said = json.dumps({"name": name, "returned": time.monotonic(), "end": end})
    sys.__stdout__.write(f"{said}\n")
    sys.__stdout__.flush()


def main():
    warnings.simplefilter("ignore")
    with redirect_stdout(io.StringIO()):
        sys.__stdout__.write("ready\n")
        sys.__stdout__.flush()
        threads = []
        for line in sys.stdin:
            threads.append(threading.Thread(target=ask, kwargs=json.loads(line)))
            threads[-1].start()
        for thread in threads:
            thread.join()


main()
