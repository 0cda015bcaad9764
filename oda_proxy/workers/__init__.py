"""Several worker processes of one server (`oda-proxy serve --workers N`).

A parent process starts, watches and restarts the workers, which share a port and a folder. One of them leads: it alone
contacts the dispatcher and runs jobs. The others answer from recordings, and forward all other requests to it. How a
request is answered is decided in `oda_proxy.proxy`.

Begin with `supervision.py`: who runs and who leads; then `forwarding.py`: requests for the leader.
"""
