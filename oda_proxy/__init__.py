"""Caching proxy for ODA/MMODA dispatchers."""

__version__ = "0.1.0"
