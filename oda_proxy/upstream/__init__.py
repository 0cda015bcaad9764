"""HTTP out: dispatchers and other servers.

Asks over HTTP with limits, pauses and a circuit breaker; caches the descriptions of instruments. No job is followed
here (`jobs`).

Begin with `dispatcher.py`, then `throttling.py`.
"""
