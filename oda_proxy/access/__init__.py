"""Who may do what: the roles of visitors of the proxy's own routes.

Decides from what a request shows: its address and its tokens. Does no I/O; requests are read and refused in
`oda_proxy.web.own_routes`.

Begin with `roles.py`: what each role may do; then `visitor.py` and `authentication.py`.
"""
