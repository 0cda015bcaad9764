"""Request products one after the other with one client object; print its state after each as one line of JSON.

    reuse_client.py URL ARGUMENTS...

Each of ARGUMENTS is a JSON object: the arguments of one `get_product`.
"""

import io
import json
import sys
from contextlib import redirect_stdout

from oda_api.api import DispatcherAPI


def state_after(client, arguments):
    """Request a product; return what identifies the job for the client, and how the job ended."""
    with redirect_stdout(io.StringIO()):
        client.get_product(**arguments)
    return {"job_id": client.job_id, "query_status": client.query_status, "session_id": client.session_id}


def main():
    """Print the states of the client."""
    client = DispatcherAPI(url=sys.argv[1])
    print(json.dumps([state_after(client, json.loads(arguments)) for arguments in sys.argv[2:]]))


main()
