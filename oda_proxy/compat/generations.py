"""The generations of the client, and the members of `products` whose form depends on them.

Releases since 1.0.9 send `oda_api_version`, which determines the generation; 1.0 is known by other arguments that it
always sends (`Envelope.client_version`). Programs that are not `oda_api` get today's form.
"""

from __future__ import annotations

import json
import re
from enum import IntEnum
from functools import lru_cache
from typing import Any


class Generation(IntEnum):
    """Releases of the client that read answers in the same way."""

    FIRST = 1
    """1.0, of 2019."""
    EARLY = 2
    """1.0.9 to 1.1.0."""
    MODERN = 3
    """From 1.1.46."""


VERSION_DEPENDENT = frozenset(
    {"astropy_table_product_ascii_list", "astropy_table_product_binary_list", "binary_data_product_list"}
)
"""Members of `products` whose form depends on the generation."""

_EARLY_FROM = (1, 0, 9)
_MODERN_FROM = (1, 1, 46)


def generation(version: str | None) -> Generation:
    """Return the generation of a client version; an unknown version and none are modern ones."""
    return Generation.MODERN if version is None else _generation(version[:_LONGEST])


_LONGEST = 20
"""Characters in which the longest release is."""


@lru_cache(256)
def _generation(version: str) -> Generation:
    numbers = re.match(r"(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?", version)
    if numbers is None:
        return Generation.MODERN
    release = tuple(int(number or 0) for number in numbers.groups())
    if release < _EARLY_FROM:
        return Generation.FIRST
    return Generation.EARLY if release < _MODERN_FROM else Generation.MODERN


def adapted(name: str, value: Any, version: str | None) -> Any:
    """Return a member of `products` in the form that this client reads: the same object where it already has it.

    Repaired answers have tables as objects (`product_repairs`). 1.0 reads the bare text of a table, and fails on an
    object. Up to 1.1.0 binary products are bare texts without a name, and a pickled table makes the whole answer
    unreadable: such tables are left out, so that everything else is read.
    """
    client = generation(version)
    if name not in VERSION_DEPENDENT or not isinstance(value, list) or not value or client is Generation.MODERN:
        return value
    if name == "astropy_table_product_binary_list":
        return []
    if name == "binary_data_product_list":
        return [_member(item, "data") for item in value]
    return [_member(item, "ascii") for item in value] if client is Generation.FIRST else value


def _member(item: Any, name: str) -> Any:
    """Return a member of an object, or of JSON text of one; anything else is returned unchanged."""
    try:
        described = json.loads(item) if isinstance(item, str) else item
    except ValueError:
        return item
    return described.get(name, item) if isinstance(described, dict) else item
