"""The servers: builds the proxy or the mock from its options, and runs it until a signal stops it.

Each function imports what it needs: the mock starts fast, and uses no module of the proxy but its listener.

Begin with `one_process.py`; `parts.py` builds a proxy with its store and its upstream.
"""
