"""Find the pickles and texts of an answer that would run code in a client, which loads them without a check.

Nothing is loaded here: the names that a pickle would load are read from its operations. Bytes that are not a pickle of
an array are reported, too: a client would run them up to the first fault.
"""

from __future__ import annotations

import ast
import json
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from oda_proxy.codec import pickle_allow_list
from oda_proxy.compat.pickles import Pickles

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_PICKLE = "what is no pickle of an array"
CODE = "a text that clients evaluate and that is no plain value"

_MAX_NAME = 100
"""Characters of a name that are reported: it comes from outside."""


def forbidden_names(products: Any, pickles: Pickles | None = None) -> tuple[str, ...]:
    """Return the names, sorted, that the products of an answer would load or run and that are not on the allow-list.

    `pickles` are those that were decoded before.
    """
    found: set[str] = set()
    pickles = pickles or Pickles()
    for kind, text in _loaded(products):
        found.update(_forbidden(kind, text, pickles))
    return tuple(sorted(name[:_MAX_NAME] for name in found))


class _Kind(Enum):
    """How a client loads a text."""

    PICKLE = auto()
    PICKLED_TABLE = auto()
    EVALUATED = auto()


def _loaded(value: Any) -> Iterator[tuple[_Kind, str]]:
    """Yield every text that a client loads, found by the name of its member at any depth."""
    if isinstance(value, list):
        for inner in value:
            yield from _loaded(inner)
    elif isinstance(value, dict):
        loaded = [(_Kind.PICKLE, "binarys"), (_Kind.PICKLED_TABLE, "binary")]
        if "data_unit_list" in value:
            loaded.append((_Kind.EVALUATED, "meta_data"))
        if "binarys" in value and value["binarys"] is None:
            loaded += [(_Kind.EVALUATED, "data"), (_Kind.EVALUATED, "dt")]
        yield from ((kind, value[name]) for kind, name in loaded if isinstance(value.get(name), str))
        for inner in value.values():
            yield from _loaded(inner)
    elif isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            return
        yield from _loaded(parsed)


def _forbidden(kind: _Kind, text: str, pickles: Pickles) -> tuple[str, ...]:
    if kind is _Kind.EVALUATED:
        return () if _is_plain(text) else (CODE,)
    names = pickles.find(text).names
    if names is None:
        return (NO_PICKLE,)
    return pickle_allow_list.forbidden_names(names, tables=kind is _Kind.PICKLED_TABLE)


_PLAIN = (ast.Expression, ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.Name, ast.Attribute, ast.Load)
_SIGNS = (ast.UnaryOp, ast.USub, ast.UAdd)


def _is_plain(text: str) -> bool:
    """Return whether Python evaluates a text to values and names only, without calls or computations."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        pass
    else:
        return True
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError:
        return True  # nothing runs
    except (ValueError, RecursionError, MemoryError):
        return False
    return all(isinstance(node, _PLAIN + _SIGNS) for node in ast.walk(tree))
