"""One job of the dispatcher for each query, however many ask.

Coalesces clients on one job, polls the dispatcher until it has ended, and tells clients how it stands. Nothing is
looked up in the store before a job is wanted (`proxy`).

Begin with `job.py`: the states of a job; `coalescing.py`: who joins; `polling.py`: asking until the end.
"""
