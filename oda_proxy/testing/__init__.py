"""Parts of the pytest plugin.

Cassettes (the recordings of a test) and the blocked network. Options, markers and fixtures are in
`oda_proxy.pytest_plugin`.

Begin with `cassette.py`.
"""
