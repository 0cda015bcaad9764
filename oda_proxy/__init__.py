"""Caching proxy for ODA/MMODA dispatchers.

In Python, each of these is a server for the time of a `with` block, which is given its address: `serving` the caching
proxy, `mocking` a dispatcher, `recording` what is asked as a capsule, `replaying` one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oda_proxy._version import __version__

if TYPE_CHECKING:
    from oda_proxy.in_process import mocking, recording, replaying, serving

__all__ = ["__version__", "mocking", "recording", "replaying", "serving"]


def __getattr__(name: str) -> Any:
    """Import what serves when it is first asked for: most who import the package want a part of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("oda_proxy.in_process"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
