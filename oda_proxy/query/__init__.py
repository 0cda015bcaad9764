"""What is asked: a request as a query, its canonical form, its cache key.

Splits what is asked (`Query`) from who asks (`Envelope`), reads it under the description of its instrument, and names
the audience of its answer. Nothing is asked of a dispatcher but descriptions, and nothing is stored (`upstream`,
`store`).

Begin with `query.py`, then `normalised.py` and `cache_key.py`; `audience.py` keeps a private answer from another user.
"""
