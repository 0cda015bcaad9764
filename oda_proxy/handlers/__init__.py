"""Parts of the way of a request: what a deployment configures, what a proxy uses, what it counts, and single routes.

In which order they are used is decided in `oda_proxy.proxy`. Jobs are in `jobs`, recordings in `store`.

Begin with `policy.py`.
"""
