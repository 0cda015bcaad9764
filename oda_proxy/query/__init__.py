"""Queries: from the fields of a request to a canonical form and a cache key.

Separates the query (`Query`) from the client that sends it (`Envelope`), normalises it with the description of its
instrument, and names the audience of its answer. Does no I/O but to fetch and store descriptions of instruments;
requests are sent by `upstream`, recordings are stored by `store`.

Begin with `query.py`, then `normalised.py` and `cache_key.py`; `audience.py` keeps a private answer from another user.
"""
