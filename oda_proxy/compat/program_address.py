"""Name the proxy in `api_code`, the program in an answer that repeats its query, in place of the dispatcher."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

API_CODE: Final = "api_code"
"""The member of `products` that has the program."""

ADDRESS: Final = r"(?<=DispatcherAPI\(url=)(?P<quote>['\"])[^'\"\n]*['\"]"
"""The pattern of the address in a program, with its quotes."""

_ADDRESS: Final = re.compile(ADDRESS)


def with_address(name: str, value: Any, base_url: str) -> Any:
    """Return a member of `products`; a program with `base_url`, the address of the proxy for its client.

    The same value is returned where nothing changes, as where `base_url` is empty: the client is not known.
    """
    if name != API_CODE or not base_url or not isinstance(value, str):
        return value
    changed = _ADDRESS.sub(lambda found: f"{found['quote']}{base_url}{found['quote']}", value)
    return value if changed == value else changed


def products_with_address(products: Mapping[str, Any], base_url: str) -> dict[str, Any]:
    """Return the members of `products`, each as `with_address` returns it."""
    return {name: with_address(name, value, base_url) for name, value in products.items()}
