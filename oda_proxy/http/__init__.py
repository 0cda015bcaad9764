"""HTTP requests and answers as values.

Requests, answers, header rules, routes, spooled bodies, and the terms of `Cache-Status`. Nothing is sent or received
here (`upstream`, `web`), and queries are not known (`query`).

Begin with `message.py`: a request to an upstream; `routes.py`: what is done with a path.
"""
