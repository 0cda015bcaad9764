"""Replicas: servers on several hosts that share a store in Redis (docs/scale.md).

One of them leads each job under a lease; the others follow it, and one continues it where the leader ends. Limits on
requests to the dispatcher hold for all together. Recordings are stored by `store.redis`.

Begin with `coordination.py`: who leads a job; then `leases.py`: what is in Redis.
"""
