"""HTTP requests and answers as values.

Requests, answers, header rules, routes and bodies that are read ahead; the words of `Cache-Status`. Nothing is sent
or received here (`upstream`, `web`), and nothing is known of queries (`query`).

Begin with `message.py`: what is asked of an upstream; `routes.py`: what is done with a path.
"""
