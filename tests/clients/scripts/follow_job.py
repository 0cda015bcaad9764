"""Follow an asynchronous job state by state with oda_api 1.1.46 or later; print one line of JSON.

    follow_job.py URL CALL_BACK BACK_END ARGUMENTS ACTIONS

After each state but the last, the next of the comma-separated ACTIONS is reported to the dispatcher at CALL_BACK, as a
computing back end does; the dummy plugin reads from the file BACK_END whether its back end has finished. Then the
client polls until the state is another: a proxy may answer a poll from the state that it saw last.
"""

import json
import sys
import time
from pathlib import Path

import requests
from oda_api.api import DispatcherAPI

PATIENCE = 60.0


def main():
    url, call_back, back_end, arguments, actions = sys.argv[1:]
    client = DispatcherAPI(url=url, wait=False)
    client.get_product(**json.loads(arguments))
    states = [client.query_status]
    for action in actions.split(","):
        if action == "done":
            Path(back_end).write_text("done")
        if action:
            report = {
                "job_id": client.job_id,
                "session_id": client.session_id,
                "instrument_name": "empty-async",
                "action": action,
            }
            requests.get(f"{call_back}/call_back", params=report, timeout=30).raise_for_status()
        client.poll()
        deadline = time.monotonic() + PATIENCE
        while action and client.query_status == states[-1] and time.monotonic() < deadline:
            time.sleep(0.2)
            client.poll()
        states.append(client.query_status)
    print(json.dumps({"states": states}))


main()
