"""Run scripts in forks of one process that has imported `oda_api`, which takes longer than most scripts.

    fork_server.py DESCRIPTOR

Requests come from the socket DESCRIPTOR, until its other end is closed. Each is the length of a JSON text in 8 bytes,
then the text; with the length come the descriptors of a pipe for the result, and of the script's standard input, output
and error. The JSON object has `arguments` (the path of the script, and its own arguments), `folder` and `environ`. The
result is a line with the id of the script's process, and one with its exit status when it has ended.
"""

import json
import os
import runpy
import signal
import socket
import sys

import numpy as np
import oda_api.api  # noqa: F401 - for the scripts


def next_request(requests):
    """Return the next request with its descriptors, or None if there are no more."""
    size, descriptors, _, _ = socket.recv_fds(requests, 8, 4)
    if not size:
        return None
    return json.loads(requests.recv(int(size), socket.MSG_WAITALL)), descriptors


def script_of(request, descriptors):
    """Fork twice: return the path of the script in its own process; the one between reports how that ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    result, *standard = descriptors
    process = os.fork()
    if process:
        for descriptor in standard:
            os.close(descriptor)
        os.write(result, b"%d\n" % process)
        _, status = os.waitpid(process, 0)
        os.write(result, b"%d\n" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    os.close(result)
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environ"])
    np.random.seed()  # noqa: NPY002 - that of `random` is new in each fork
    sys.argv = request["arguments"]
    return sys.argv[0]


def main():
    """Fork for each request; return the path of a script in the process that is to run it, and None in this one."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # processes that have reported need nobody to wait for them
    while (found := next_request(requests)) is not None:
        if not os.fork():
            requests.close()
            return script_of(*found)
        for descriptor in found[1]:
            os.close(descriptor)
    return None


if (script := main()) is not None:
    runpy.run_path(script, run_name="__main__")
