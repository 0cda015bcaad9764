"""Changes of JSON values that return the same object if nothing changes, so that it keeps its text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Change = Callable[[Any], Any]
"""A function that returns the same object if there is nothing to change."""


def with_members(value: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return an object with some members replaced."""
    if all(name in value and (value[name] is new or value[name] == new) for name, new in changes.items()):
        return value
    return {**value, **changes}


def same_if_equal(value: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return `value` if all members of `new` are the same objects, else `new`."""
    return value if value.keys() == new.keys() and all(value[name] is new[name] for name in value) else new


def mapped(items: list[Any], change: Change) -> list[Any]:
    """Apply a change to each element of a list."""
    new = [change(item) for item in items]
    return items if all(one is other for one, other in zip(items, new, strict=True)) else new
