"""HTTP in: the aiohttp application and our own pages.

A request of aiohttp becomes a `Request`, an `Answer` its response. Nothing is decided here (`oda_proxy.proxy`).

Begin with `app.py`.
"""
