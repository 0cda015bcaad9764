"""The HTTP server: the aiohttp application and the proxy's own pages.

An aiohttp request becomes a `Request`, and an `Answer` an aiohttp response. How a request is answered is decided in
`oda_proxy.proxy`.

Begin with `app.py`.
"""
