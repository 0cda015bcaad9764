"""A store whose index is in Redis, and whose heads are files or objects (`oda_proxy.store.objects`).

Begin with `address.py`: what `--store URL` means; `clients.py`: connections to Redis; `keyspace.py`: the names of keys.
"""
