"""Query a mock with `oda_api` while the state of its job is set by hand; print one line of JSON.

    play_by_hand.py URL ARGUMENTS CHANGES

The client waits for its product in a thread. CHANGES is a JSON list of what is posted to the mock's own route for the
job, each once the client has polled in the state before.
"""

import json
import sys
import time
from threading import Thread

import requests
from oda_api.api import DispatcherAPI

PATIENCE = 60.0


def post(url, body):
    """Change the mock."""
    requests.post(url, json=body, timeout=30).raise_for_status()


def wait_for_poll(url, polls):
    """Wait until the client has polled more often, and return the job."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        jobs = requests.get(f"{url}/-/jobs", timeout=30).json()["jobs"]
        if jobs and jobs[0]["polls"] > polls:
            return jobs[0]
        time.sleep(0.1)
    raise SystemExit("the client did not poll")


def query(url, arguments, answer):
    """Wait for a product; an error is an answer, too (clients before 1.1.46 raise SystemExit)."""
    try:
        client = DispatcherAPI(url=url)
    except TypeError:  # 1.0 has no `url`
        client = DispatcherAPI(host=url)
    try:
        answer["products"] = len(client.get_product(**arguments)._p_list)
    except (Exception, SystemExit) as error:
        answer["error"] = f"{type(error).__name__}: {error}"


def main():
    url, arguments, changes = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    post(f"{url}/-/jobs", {"hold": True})
    answer = {"products": 0, "error": ""}
    client = Thread(target=query, args=(url, arguments, answer), daemon=True)
    client.start()
    states, polls = [], 0
    for change in changes:
        job = wait_for_poll(url, polls)
        states.append(job["state"])
        polls = job["polls"]
        post(f"{url}/-/jobs/{job['id']}", change)
    client.join(PATIENCE)
    states.append(requests.get(f"{url}/-/jobs", timeout=30).json()["jobs"][0]["state"])
    print()
    print(json.dumps({**answer, "states": states}))


main()
