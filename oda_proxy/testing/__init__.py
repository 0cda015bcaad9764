"""What the pytest plugin stands on.

The recordings of one test, and no network while tests run. Options, markers and fixtures are in
`oda_proxy.pytest_plugin`.

Begin with `cassette.py`.
"""
