"""Figures about a running server: plain integers that requests add to, and their exposition for Prometheus.

Nothing here knows the proxy: `oda_proxy.web.metrics_page` reads its state. Begin with `catalogue.py`.
"""
