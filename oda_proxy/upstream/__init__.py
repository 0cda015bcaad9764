"""HTTP out: dispatchers and other servers.

Sends requests with limits, pauses and a circuit breaker; caches descriptions of instruments. Jobs are polled in
`jobs`.

Begin with `dispatcher.py`, then `throttling.py`.
"""
