"""One job of the dispatcher for each query, however many clients ask.

Coalesces clients on one job, polls the dispatcher until it ends, and answers the clients meanwhile. Recordings are
looked up before a job is started, in `proxy`.

Begin with `job.py`, the state machine; `coalescing.py` says who joins a job, `polling.py` runs it.
"""
