"""Caching proxy for ODA/MMODA dispatchers.

Each of these context managers runs a server and returns its URL: `serving` the caching proxy, `mocking` a mock
dispatcher, `recording` a capsule, `replaying` one. `MockControl` controls a mock dispatcher that runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oda_proxy._version import __version__

if TYPE_CHECKING:
    from oda_proxy.in_process import mocking, recording, replaying, serving
    from oda_proxy.testing.mock_control import MockControl

__all__ = ["MockControl", "__version__", "mocking", "recording", "replaying", "serving"]


def __getattr__(name: str) -> Any:
    """Import the servers on first use, so that the import of the package stays fast."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = "oda_proxy.testing.mock_control" if name == "MockControl" else "oda_proxy.in_process"
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
