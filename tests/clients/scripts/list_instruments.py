"""Print the list of instruments at each address, as JSON.

list_instruments.py URL...
"""

import io
import json
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout

from oda_api.api import DispatcherAPI


def instruments(url):
    """Return the names of the instruments at an address."""
    try:
        client = DispatcherAPI(url=url)
    except TypeError:  # 1.0 has no `url`
        client = DispatcherAPI(host=url)
    return client.get_instruments_list()


def main():
    warnings.simplefilter("ignore")
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        found = [instruments(url) for url in sys.argv[1:]]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
