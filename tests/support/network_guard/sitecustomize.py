"""Put the programs that tests start under the guard: Python imports this at its start where this folder is on its path.

The module of this name that would have been imported otherwise, if there is one, is run afterwards.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

import loopback_only

loopback_only.install()

_here = Path(__file__).resolve().parent
_spec = PathFinder.find_spec("sitecustomize", [entry for entry in sys.path if Path(entry).resolve() != _here])
if _spec is not None and _spec.loader is not None:
    _spec.loader.exec_module(module_from_spec(_spec))
